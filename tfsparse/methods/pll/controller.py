"""The PLL controller: the callback of both roads, without what each Keras forces."""

import abc
import math
import time

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.callbacks.fit_hooks import FitHooks, warn_of_final_cut
from tfsparse.methods.pll import rules
from tfsparse.methods.pll.curvature_probe import CurvatureProbe, MeasuringCost
from tfsparse.optimizers.masked_weights import MaskedWeights, check_replicas
from tfsparse.optimizers.validation import check_total_steps
from tfsparse.pruners import selection


class PLLController(FitHooks):
    """Mixed into a callback of Keras 3 or tf_keras. The decisions themselves are in `tfsparse.methods.pll.rules`.

        every `every` steps until pruning has ended:
            not started:  curvature = |largest eigenvalue|;  started = start.is_reached(curvature)
            started:      n = num_to_prune(rate.admitted(...), ...);  prune the n smallest living weights of the model

    All state is in variables that are saved with the model (`_extra_state`): `progress`, and the last eigenvector as
    `direction_0`, `direction_1`, ...

    Attributes:
        history: One dict per check: step, sparsity, pruned, and what was measured of kappa, h and loss.
        cost: What measuring has cost so far.
    """

    async_safe = False  # else Keras would call the hooks in another thread, while the next step runs

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
    ):
        super().__init__()
        self.calibration_data, self.loss = calibration_data, loss
        self.sparsity = None if sparsity is None else selection.check_sparsity(sparsity)
        self.start, self.rate = rules.starts.get(start), rules.rates.get(rate)
        self.every, self.end, self.total_steps = _check_every(every), _check_end(end), check_total_steps(total_steps)
        self.history, self.cost = [], MeasuringCost()

    # ---- what each road provides ------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _prepare(self, model):
        """Make `model` prunable by this callback, with its extra state; return the curvature of its pruned weights."""

    @property
    @abc.abstractmethod
    def _extra_state(self) -> dict:
        """`{name: variable}`, saved with the model."""

    @property
    @abc.abstractmethod
    def _masked_weights(self) -> MaskedWeights:
        """All pruned weights of the model, which are ranked together."""

    def _prune_to(self, num_zeros: int) -> None:
        """Prune the smallest weights until `num_zeros` entries are zero, and empty their slots."""
        self._masked_weights.prune_to(num_zeros)

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def set_model(self, model):
        super().set_model(model)
        self._curvature = self._prepare(model)

    def on_train_begin(self, logs=None):
        self._start_time = time.perf_counter()
        self._seconds_before = self.cost.seconds, self.cost.seconds_first

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._epoch_start, self._num_batches, self._batch = self._masked_weights.num_steps(), 0, -1

    def _begin_fit(self, first_epoch, num_steps):
        self._set_length(num_steps)
        self._check_if_due()  # a run that was saved before the check of its last step

    def on_train_batch_end(self, batch, logs=None):
        self._num_batches, self._batch = self._num_batches + batch - self._batch, batch
        # an upper bound of the steps done; on JAX reading the real number synchronises the model
        steps = self._epoch_start - self._progress.first_step + -(-self._num_batches // self._batches_per_step())
        if self._progress.end_step < 0 and steps // self._every > self._progress.last_check // self._every:
            self._check_if_due()

    def on_epoch_end(self, epoch, logs=None):
        check_replicas([self._masked_weights])
        if logs is not None:
            logs["curvature"] = self._progress.curvature
            logs["sparsity"] = self.current_sparsity()
            logs["measuring_share"] = self.measuring_share(compiling=True)

    def on_train_end(self, logs=None):
        if self.total_steps is None and self.sparsity is not None and self._progress.end_step < 0:
            steps = self._masked_weights.num_steps() - int(self._progress.first_step)
            total, skipped = int(self._progress.total_steps), self._num_skipped()
            warn_of_final_cut(self.model, steps, total, self.current_sparsity(), self.sparsity, skipped)
            self._prune_to(self._target())
        if self.params.get("verbose"):
            print(self.summary())

    # ---- results ----------------------------------------------------------------------------------------------------

    @property
    def products(self) -> int:
        """Hessian-vector products so far."""
        return self.cost.products

    def reached_target(self) -> bool:
        """Return whether pruning has ended."""
        return rules.Progress.load(backend_ops.to_numpy(self._extra_state["progress"])).end_step >= 0

    def current_sparsity(self) -> float:
        """Return the zeros in all masks over the entries of all pruned weights, counted now."""
        return self._masked_weights.sparsity()

    def measuring_share(self, compiling: bool = True) -> float:
        """Return the share of this fit's wall time that measuring took.

        Args:
            compiling: Whether to count the first call of each kind, which compiles. Default: True.
        """
        seconds = time.perf_counter() - self._start_time
        measuring = self.cost.seconds - self._seconds_before[0]
        first = self.cost.seconds_first - self._seconds_before[1]
        return measuring / seconds if compiling else (measuring - first) / (seconds - first)

    def summary(self) -> str:
        """Return one line: when pruning started and ended, the sparsity, and what measuring cost."""
        p = self._progress
        started, ended = (f"{s:.0f}" if s >= 0 else "never" for s in (p.start_step, p.end_step))
        return (
            f"PLL: started at step {started}, ended at {ended} of {p.total_steps:.0f}, sparsity "
            f"{self.current_sparsity():.4f}; {self.products} Hessian-vector products, measuring took "
            f"{self.measuring_share():.1%} of the time ({self.measuring_share(False):.1%} without compiling)."
        )

    # ---- one check --------------------------------------------------------------------------------------------------

    def _set_length(self, num_steps):
        """Read the saved progress. Start a new one with this `fit`, or refuse a `fit` that ends before pruning does."""
        saved = backend_ops.to_numpy(self._extra_state["progress"])
        self._progress = progress = rules.Progress.load(saved)
        if len(saved) < len(progress.dump()) and progress.end_step < 0:
            raise ValueError(
                "This model was saved by tfsparse 0.1 before its pruning by PLL had ended, and the rules of PLL are "
                "others now. Train it to the end with tfsparse 0.1, or prune its present weights anew: call "
                "model.compile(...) with a new optimizer before fit."
            )
        steps = self._masked_weights.num_steps()
        if progress.total_steps == 0:
            progress.first_step, progress.total_steps = steps, check_total_steps(self.total_steps or num_steps)
        self._every = self.every or rules.default_every(int(progress.total_steps))
        last = self.end * progress.total_steps
        if self._every > last:
            raise ValueError(
                f"every={self._every} of {progress.total_steps:.0f} steps leaves no check in the first {last:.0f}, in "
                f"which pruning must end. Train longer, or write PLL(..., every={max(int(last) // 8, 1)})."
            )
        if self.total_steps is None and progress.end_step < 0 and steps + num_steps < progress.first_step + last:
            raise ValueError(
                f"PLL has done {steps - progress.first_step:.0f} of {progress.total_steps:.0f} steps and this fit has "
                f"only {num_steps}, so it would end before pruning does. Train for more epochs, or write "
                f"PLL(..., total_steps={progress.total_steps:.0f}) to spread it over several fits."
            )

    def _target(self) -> int:
        """Zeros at the end: those of global magnitude pruning, or the most there can be if no sparsity is requested."""
        return self._masked_weights.num_prunable(1.0 if self.sparsity is None else self.sparsity)

    def _check_if_due(self):
        step = self._masked_weights.num_steps() - int(self._progress.first_step)
        if self._progress.end_step < 0 and step // self._every > self._progress.last_check // self._every:
            self._check(step)

    def _check(self, step):
        progress, t = self._progress, step / self._progress.total_steps
        num_events = int(self.end * progress.total_steps) // self._every - step // self._every + 1  # with this one
        probe = CurvatureProbe(self._curvature, self._masked_weights, self._extra_state, step, self.cost)
        progress.last_check, pruned, measured = step, 0, {}
        if progress.start_step < 0 and num_events > 1:
            measured = self._check_start(probe, t, step)
        if progress.start_step >= 0 or num_events <= 1:
            pruned, more = self._pruning_event(probe, num_events, step)
            measured |= more
        progress.curvature = measured.get("h", measured.get("kappa", progress.curvature))
        self.history.append({"step": step, "sparsity": self.current_sparsity(), "pruned": pruned, **measured})
        # through float32, so that a resumed run decides by the same numbers
        self._progress = rules.Progress.load(progress.dump())
        replicas.assign(self._extra_state["progress"], ops.convert_to_tensor(progress.dump()))

    def _check_start(self, probe, t, step):
        measures, first = self.start.needs_curvature(t), not math.isfinite(self._progress.mean_curvature)
        curvature = abs(probe.eigenvalue(5 if first else 3)) if measures else math.nan
        if self.start.is_reached(self._progress, t, curvature):
            self._progress.start_step = step
        return {"kappa": curvature} if measures else {}

    def _pruning_event(self, probe, num_events, step):
        progress = self._progress
        progress.start_step = step if progress.start_step < 0 else progress.start_step
        zeros, target, size = self._masked_weights.num_zeros(), self._target(), sum(self._masked_weights.sizes)
        living = size - zeros
        final_living = None if self.sparsity is None else size - target
        admitted, measured = self.rate.admitted(progress, probe, living, final_living)
        pruned = min(rules.num_to_prune(admitted, living, final_living, num_events), target - zeros)
        if pruned > 0:
            check_replicas([self._masked_weights])  # an update computes the masks once for all and would hide it
            self._prune_to(zeros + pruned)
        progress.num_idle = progress.num_idle + 1 if admitted < living / 100 else 0
        stopped = progress.num_idle >= 3 if self.sparsity is None else zeros + pruned >= target
        progress.end_step = step if stopped or num_events <= 1 else -1
        return max(pruned, 0), {**measured, "admitted": admitted}


def initial_extra_state(weights) -> dict:
    """Return the initial values of the extra state: `{name: array}`."""
    directions = {f"direction_{i}": np.zeros(tuple(w.shape), "float32") for i, w in enumerate(weights)}
    return {"progress": rules.Progress().dump(), **directions}


def _check_every(every):
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f"every={every!r}: expected training steps between checks, an integer >= 1, or None.")
    return every


def _check_end(end):
    if isinstance(end, bool) or not isinstance(end, (int, float)) or not 0 < end <= 1:
        raise ValueError(f"end={end!r}: expected a fraction of training in (0, 1], for example end=0.5.")
    return float(end)
