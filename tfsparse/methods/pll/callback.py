"""PLL for Keras 3 models."""

import keras
import numpy as np

from tfsparse.callbacks.sparse_training import SparseTraining
from tfsparse.methods.pll import rules
from tfsparse.methods.pll.controller import PLLController, initial_extra_state
from tfsparse.methods.pll.curvature import Curvature
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Magnitude
from tfsparse.schedules import OneShot


class PLL(SparseTraining, PLLController, keras.callbacks.Callback):
    """Lets the curvature of the loss decide when and how much to prune (Roulette, PLL).

        at every `every`-th step, until pruning has ended:
            before the start:  kappa = |largest eigenvalue of the Hessian|, by power iteration from the last eigenvector
                               start when kappa has fallen from its first peak               (`rules.Peak`)
            from the start on: h = trace(H) / living weights;  L = loss;  both of the calibration data
                               rise = h / 2 * sum of w² / L  of the n smallest |w|;  spent += rise
                               prune the most with rise <= 0.25 and n <= 0.2 * what is left  (`rules.LossBudget`);
                               without a sparsity, also with spent <= 1;
                               with one, at least the equal share per event that leads to it by `end`
        masks only shrink; slots of pruned weights are emptied; after the end nothing is measured

    With a sparsity, pruning ends when it is reached, at fraction `end` of training at the latest. Exactly as many
    weights are zero then as `Magnitude(scope="global")` would prune. Without one, pruning stops when the predicted
    rises of the loss of all events add up to the loss (three events in a row admit less than a hundredth of the
    living weights), or at `end`.

    Curvature is measured with five products at the first check, then three until the start, and two at each pruning
    event. `summary()` says what share of the time that took. The epochs' logs get `sparsity`, `curvature` (kappa until
    pruning starts, then h) and `measuring_share`. All state is saved with the optimizer, so a resumed run equals the
    straight run.

    Args:
        calibration_data: One batch `(x, y)` or `(x, y, sample_weight)`, at least as large as a training batch and equal
            on all processes.
        sparsity: Target in [0, 1) of all kernels together. Default: None, which lets curvature decide.
        every: Optimizer steps between checks, >= 1. A product costs about three gradients of the calibration data, so
            measuring takes about `6 * rows / (every * batch size)` of training. Default: None, which is
            `rules.default_every`.
        start: When pruning starts: "peak", `rules.Peak(...)`, or `rules.FixedStart(0.1)`. Default: "peak".
        rate: How much an event prunes: "loss_budget", `rules.LossBudget(...)`, or `rules.Share(0.2)`. Default:
            "loss_budget".
        end: Fraction of training in (0, 1] at which pruning has ended at the latest. Default: 0.5.
        total_steps: Length of training in optimizer steps. Set it when training spans several calls of `fit`. Default:
            None, which is all steps of this `fit`.
        loss: Name, function or `keras.losses.Loss` of `(y, model(x))`. Default: None, the compiled loss.
        exclude: Layers, their names, or variables to leave dense; one of them or several.
        skip_first: Whether to leave the first kernel of the model dense. Default: False.
        skip_last: Whether to leave the last kernel of the model dense. Default: False.

    Raises:
        ValueError: Before the first step, if the arguments, the model or the length of training cannot work.
        TypeError: If `calibration_data` is not one batch.

    Source:
        Zhong, Zhang, Qiu, Cheng, "Roulette: A Pruning Framework to Train a Sparse Neural Network From Scratch" (IEEE
        Access 9, 2021). Only its abstract is public: it prunes iteratively while training from scratch, within the
        usual number of iterations, and lets the loss landscape decide instead of hand-set parameters. The estimators,
        both rules and all numbers are ours.

    Examples:
        >>> pll = tfsparse.PLL((x[:128], y[:128]), sparsity=0.9)
        >>> model.fit(x, y, epochs=10, callbacks=[pll])
        >>> print(pll.summary())
    """

    def __init__(
        self,
        calibration_data,
        sparsity: float | None = None,
        *,
        every: int | None = None,
        start="peak",
        rate="loss_budget",
        end: float = 0.5,
        total_steps: int | None = None,
        loss=None,
        exclude=(),
        skip_first: bool = False,
        skip_last: bool = False,
    ):
        super().__init__(
            calibration_data,
            sparsity,
            every=every,
            start=start,
            rate=rate,
            end=end,
            total_steps=total_steps,
            loss=loss,
        )
        self.exclude, self.skip_first, self.skip_last = exclude, skip_first, skip_last

    def _prepare(self, model):
        compiled_model.check_ready(model)
        optimizer = compiled_model.sparse_optimizer(model)
        if optimizer is None or not self._resumes(optimizer):
            optimizer = compiled_model.sparsify(
                model,
                OneShot(start=0.0),  # one update, in the first step, of no weight: every other one is decided here
                self.sparsity or 0.0,
                Magnitude(scope="global"),
                exclude=self.exclude,
                skip_first=self.skip_first,
                skip_last=self.skip_last,
            )
            masks = [keras.ops.convert_to_numpy(mask) for mask in optimizer.masks]
            optimizer.target.assign([int(np.sum(mask == 0)) for mask in masks])  # until the first pruning event
            optimizer.add_extra_state(initial_extra_state(optimizer.pruned_variables))
        self._accumulation = optimizer.gradient_accumulation_steps or 1
        return Curvature(model, self.calibration_data, self.loss, optimizer.pruned_variables)

    def _resumes(self, optimizer):
        return "progress" in optimizer.extra_state and optimizer.sparsity == (self.sparsity or 0.0)

    def _set_length(self, num_steps):
        super()._set_length(num_steps)
        self._optimizer.set_total_steps(int(self._progress.total_steps))

    @property
    def _extra_state(self):
        return self._optimizer.extra_state

    @property
    def _masked_weights(self):
        return self._optimizer.mask_state

    def _batches_per_step(self):
        return self._accumulation

    def _prune_to(self, num_zeros):
        self._optimizer.prune_to(num_zeros)


def unfinished(model: keras.Model) -> str | None:
    """Return one sentence if a model is from before the end of its pruning by PLL, else None.

    Args:
        model: A model of Keras 3.
    """
    optimizer = compiled_model.sparse_optimizer(model)
    if optimizer is None or "progress" not in optimizer.extra_state:
        return None
    progress = rules.Progress.load(keras.ops.convert_to_numpy(optimizer.extra_state["progress"]))
    has_target, zeros = optimizer.sparsity > 0, optimizer.num_zeros()
    if progress.end_step >= 0 or (has_target and zeros >= optimizer.mask_state.num_prunable(optimizer.sparsity)):
        return None
    target = f"the target is {optimizer.sparsity:g}" if has_target else "and pruning had not ended"
    return (
        f"{model.name!r} is from before the target was reached: PLL is at step "
        f"{optimizer.mask_state.num_steps() - progress.first_step:.0f} of {progress.total_steps:.0f}, "
        f"{optimizer.current_sparsity():.4f} of its weights are zero, {target}."
    )
