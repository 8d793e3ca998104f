"""PLL for Keras 3 models: curvature decides when and how much to prune."""

import keras
import numpy as np

from tfsparse.methods.pll.controller import PLLController, initial_extra_state
from tfsparse.methods.pll.curvature import Curvature
from tfsparse.optimizers import compiled_model
from tfsparse.pruners import Magnitude
from tfsparse.schedules import OneShot


class PLL(PLLController, keras.callbacks.Callback):
    """Pruning through the lens of the loss landscape: `fit(..., callbacks=[PLL((x[:128], y[:128]), sparsity=0.9)])`.

        at every `every`-th step, until pruning has ended:
            before the start:  kappa = |largest eigenvalue of the Hessian|, by power iteration from the last eigenvector
                               start when kappa has come down from its first peak           (`rules.Peak`)
            after it:          h = trace(H) / living weights;  L = loss;  both of the calibration data
                               prune the most of the smallest |w| with h / 2 * sum of w² <= 0.05 L (`rules.LossBudget`),
                               at most a fifth of what lives; with a sparsity, as much as it demands by `end`
        masks only shrink; slots of what is pruned are emptied; after the end nothing is measured

    What is known of the method is its abstract: it prunes iteratively while training from scratch, within the usual
    number of iterations, and lets the landscape of the loss decide instead of hand-set parameters. The estimators, both
    rules and all numbers are ours.

    With a sparsity, exactly as many weights are zero at fraction `end` of training as `Magnitude(scope="global")` would
    prune. Without one pruning stops when three events in a row admit less than a hundredth of what lives, or at `end`.

    Curvature is measured with five products at the first check, then three, and four at each event. `summary()` says
    how much of the time that took; `history` lists every check of this fit. The epochs' logs get `sparsity`,
    `curvature` (the last one measured: kappa until pruning starts, then h) and `measuring_share`. Everything that the
    rules know is saved with the optimizer, so that a resumed run is the straight run.

    Args:
        calibration_data: one batch `(x, y)` or `(x, y, sample_weight)`, at least as large as a training batch, equal
            on all processes.
        sparsity: target in [0, 1) of all kernels together; None: curvature decides.
        every: optimizer steps between checks; None: `rules.default_every`. A product costs about three gradients of
            the calibration data, so measuring takes some `6 * rows / (every * batch size)` of training: under 5 % from
            2400 steps on if the data are one training batch, besides compiling.
        start: "peak", `rules.Peak(...)`, or `rules.FixedStart(0.1)` for a fixed fraction of training.
        rate: "loss_budget", `rules.LossBudget(...)`, or `rules.Share(0.2)` for a fixed share per event.
        end: fraction of training in (0, 1] by which pruning has ended.
        total_steps: length of training; None: what this `fit` has left. Give it when it spans several calls of `fit`.
        loss: see `Curvature`; None: the one that the model is compiled with.
        exclude, skip_first, skip_last: as for `sparsify`.

    Raises: ValueError or TypeError before the first step if it cannot work.

    Source: Zhong, Zhang, Qiu, Cheng, "PLLController: A Pruning Framework to Train a Sparse Neural Network From Scratch",
    IEEE Access 9, 2021.

    >>> pll = tfsparse.PLL((x[:128], y[:128]))
    >>> model.fit(x, y, epochs=10, callbacks=[pll])
    >>> print(pll.summary())
    """

    def __init__(
        self,
        calibration_data,
        sparsity: float | None = None,
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
        super().__init__(calibration_data, sparsity, every, start, rate, end, total_steps, loss)
        self.exclude, self.skip_first, self.skip_last = list(exclude), skip_first, skip_last

    def _prepare(self, model):
        compiled_model.check_ready(model)
        optimizer = compiled_model.sparse_optimizer(model)
        if optimizer is None or not self._began_by_such(optimizer):
            optimizer = compiled_model.sparsify(
                model,
                OneShot(start=0.0),  # due once: all else is decided here
                self.sparsity or 0.0,
                Magnitude(scope="global"),
                exclude=self.exclude,
                skip_first=self.skip_first,
                skip_last=self.skip_last,
            )
            masks = [keras.ops.convert_to_numpy(mask) for mask in optimizer.masks]
            optimizer.target.assign([int(np.sum(mask == 0)) for mask in masks])  # until the first event
            optimizer.add_extra_state(initial_extra_state(optimizer.pruned_variables))
        self._accumulation = optimizer.gradient_accumulation_steps or 1
        return Curvature(model, self.calibration_data, self.loss, optimizer.pruned_variables)

    def _began_by_such(self, optimizer):
        return "progress" in optimizer.extra_state and optimizer.sparsity == (self.sparsity or 0.0)

    def _resolve(self, first_epoch):
        super()._resolve(first_epoch)
        self._optimizer.set_total_steps(int(self._progress.total))

    @property
    def _optimizer(self):
        return compiled_model.sparse_optimizer(self.model)

    @property
    def _extra_state(self):
        return self._optimizer.extra_state

    @property
    def _pruned(self):
        optimizer = self._optimizer
        return optimizer.pruned_variables, optimizer.masks

    def _steps(self):
        return int(keras.ops.convert_to_numpy(self._optimizer.iterations))

    def _batches_per_step(self):
        return self._accumulation

    def _goal(self):
        pruner, shapes = self._optimizer.pruner, [tuple(v.shape) for v in self._optimizer.pruned_variables]
        return sum(pruner.num_prunable(shape, 1.0 if self.sparsity is None else self.sparsity) for shape in shapes)

    def _prune_to(self, zeros):
        self._optimizer.prune_to(zeros)
