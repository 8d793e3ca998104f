"""What PLL does between the batches, on either road: a callback without the road's own callback class."""

import abc
import math
import time
import warnings

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.consistency import checks
from tfsparse.masks import topk
from tfsparse.methods.pll import rules
from tfsparse.optimizers.validation import check_total_steps
from tfsparse.pruners import selection


class PLLController(abc.ABC):
    """The hooks of both `PLL` callbacks; what they decide is in `tfsparse.methods.pll.rules`.

        every `every` steps until pruning has ended:
            not started:  curvature = |largest eigenvalue|;  started = start.reached(curvature)
            started:      n = num_to_prune(rate.admitted(), ...);  prune the n smallest living weights of the model

    All state is in `_extra_state`, variables that the road saves: `progress`, and the eigenvector as `direction_0`, ...

    Attributes:
        history: one dict per check: step, sparsity, pruned, and what was measured of kappa, h, loss.
        products: Hessian-vector products until now.
        seconds, seconds_first: spent measuring; of these in the first call of each kind, which compiles.
    """

    async_safe = False  # Keras would call the hooks in another thread, while the next step runs

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
    ):
        super().__init__()
        self.calibration_data, self.loss = calibration_data, loss
        self.sparsity = None if sparsity is None else selection.check_sparsity(sparsity)
        self.start, self.rate = rules.starts.get(start), rules.rates.get(rate)
        self.every, self.end, self.total_steps = _check_every(every), _check_end(end), check_total_steps(total_steps)
        self.history, self.products, self.seconds, self.seconds_first = [], 0, 0.0, 0.0
        self._called = set()

    # ---- what the road says -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _prepare(self, model):
        """Make `model` prunable by this callback, and its memory; returns the curvature of its pruned weights."""

    @property
    @abc.abstractmethod
    def _extra_state(self) -> dict:
        """The saved variables."""

    @property
    @abc.abstractmethod
    def _pruned(self) -> tuple[list, list]:
        """Variables: pruned weights, masks."""

    @abc.abstractmethod
    def _steps(self) -> int:
        """Optimizer steps that the model has done."""

    @abc.abstractmethod
    def _goal(self) -> int:
        """Zeros at the end: those of global magnitude pruning to `sparsity`; without one the most there can be."""

    @abc.abstractmethod
    def _prune_to(self, zeros: int) -> None:
        """Prune the smallest weights until `zeros` are gone; empty their slots."""

    def _batches_per_step(self) -> int:
        return 1

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def set_model(self, model):
        super().set_model(model)
        self._curvature = self._prepare(model)

    def set_params(self, params):
        super().set_params(params)
        if self.total_steps is None and params.get("steps") is None:
            raise ValueError(
                "The dataset's length is unknown, so nobody knows when half of training is over. Write fit(..., "
                "steps_per_epoch=...) or PLL(..., total_steps=<epochs x steps per epoch>)."
            )

    def on_train_begin(self, logs=None):
        self._began, self._at_begin = time.perf_counter(), (self.seconds, self.seconds_first)

    def on_epoch_begin(self, epoch, logs=None):
        if getattr(self, "_resolved_for", None) is not self.params:
            self._resolved_for = self.params  # once per fit, and only here is the first epoch known
            self._resolve(epoch)
            self._check_if_due()  # a run that was saved before a check of its last step
        self._first, self._batches, self._batch = self._steps(), 0, -1

    def on_train_batch_end(self, batch, logs=None):
        self._batches, self._batch = self._batches + batch - self._batch, batch
        # on JAX the look at the model synchronises it, so first what the steps can be at most
        done = self._first - self._progress.begin + -(-self._batches // self._batches_per_step())
        if self._progress.ended < 0 and done // self._every > self._progress.checked // self._every:
            self._check_if_due()

    def on_epoch_end(self, epoch, logs=None):
        self._check_replicas()
        if logs is not None:
            logs["curvature"] = self._progress.curvature
            logs["sparsity"] = self.current_sparsity()
            logs["measuring_share"] = self.measuring_share(compiling=True)

    def on_train_end(self, logs=None):
        if self.total_steps is None and self.sparsity is not None and self._progress.ended < 0:
            step = self._steps() - int(self._progress.begin)
            warnings.warn(
                f"Training ended at step {step} of {self._progress.total:.0f}, at a sparsity of "
                f"{self.current_sparsity():.4f}: cut to the target {self.sparsity:g} now, without training after it. "
                "To avoid the cut let training run to its end, or pass a smaller total_steps.",
                stacklevel=2,
            )
            self._prune_to(self._goal())
        if self.params.get("verbose"):
            print(self.summary())

    # ---- what users read --------------------------------------------------------------------------------------------

    def current_sparsity(self) -> float:
        """Zeros in all masks over the entries of all pruned weights, counted now."""
        zeros, size = self._counts()
        return zeros / size

    def measuring_share(self, compiling: bool = True) -> float:
        """Part of this fit's wall time that measuring curvature took, with or without the first call of each kind."""
        elapsed = time.perf_counter() - self._began
        spent, first = self.seconds - self._at_begin[0], self.seconds_first - self._at_begin[1]
        return spent / elapsed if compiling else (spent - first) / (elapsed - first)

    def summary(self) -> str:
        """What happened, in one line."""
        p = self._progress
        started, ended = (f"{s:.0f}" if s >= 0 else "never" for s in (p.started, p.ended))
        return (
            f"PLL: started at step {started}, ended at {ended} of {p.total:.0f}, sparsity "
            f"{self.current_sparsity():.4f}; {self.products} Hessian-vector products, measuring took "
            f"{self.measuring_share():.1%} of the time ({self.measuring_share(False):.1%} without compiling)."
        )

    # ---- one check --------------------------------------------------------------------------------------------------

    def _resolve(self, first_epoch):
        """Read the saved progress; lay a fresh one over this `fit`, or refuse a `fit` that ends before it."""
        self._progress = progress = rules.Progress.load(ops.convert_to_numpy(backend_ops.read(self._extra_state["progress"])))
        steps, left = self._steps(), None
        if self.params.get("steps") is not None:
            left = (self.params["epochs"] - first_epoch) * self.params["steps"] // self._batches_per_step()
        if progress.total == 0:
            progress.begin, progress.total = steps, check_total_steps(self.total_steps or left)
        self._every = self.every or rules.default_every(int(progress.total))
        last = self.end * progress.total
        if self._every > last:
            raise ValueError(
                f"every={self._every} of {progress.total:.0f} steps leaves no check in the first {last:.0f}, in which "
                f"pruning must end. Train longer, or write PLL(..., every={max(int(last) // 8, 1)})."
            )
        if self.total_steps is None and progress.ended < 0 and steps + left < progress.begin + last:
            raise ValueError(
                f"PLL has done {steps - progress.begin:.0f} of {progress.total:.0f} steps and this fit has only "
                f"{left}, so it would end before pruning does. Train for more epochs, or write "
                f"PLL(..., total_steps={progress.total:.0f}) to spread it over several fits."
            )

    def _check_if_due(self):
        step = self._steps() - int(self._progress.begin)
        if self._progress.ended < 0 and step // self._every > self._progress.checked // self._every:
            self._check(step)

    def _check(self, step):
        progress, t = self._progress, step / self._progress.total
        pruning_events_left = int(self.end * progress.total) // self._every - step // self._every + 1
        probe = CurvatureProbe(self, step)
        progress.checked, pruned = step, 0
        if progress.started < 0 and pruning_events_left > 1:
            found = self._look(probe, t, step)
        else:
            pruned, found = self._pruning_event(probe, pruning_events_left, step)
        progress.curvature = found.get("kappa", found.get("h", progress.curvature))
        self.history.append({"step": step, "sparsity": self.current_sparsity(), "pruned": pruned, **found})
        # by way of float32, so that a resumed run knows what this one knows
        self._progress = rules.Progress.load(progress.dump())
        _write(self._extra_state["progress"], progress.dump())

    def _look(self, probe, t, step):
        measures = self.start.measures(t)
        curvature = abs(probe.eigenvalue(3 if math.isfinite(self._progress.average) else 5)) if measures else math.nan
        if self.start.reached(self._progress, t, curvature):
            self._progress.started = step
        return {"kappa": curvature} if measures else {}

    def _pruning_event(self, probe, pruning_events_left, step):
        progress = self._progress
        progress.started = step if progress.started < 0 else progress.started
        zeros, size = self._counts()
        living, goal = size - zeros, self._goal()
        admitted, found = self.rate.admitted(probe, living)
        alive = None if self.sparsity is None else size - goal
        pruned = min(rules.num_to_prune(admitted, living, alive, pruning_events_left), goal - zeros)
        if pruned > 0:
            self._check_replicas()
            self._prune_to(zeros + pruned)
        progress.idle = progress.idle + 1 if admitted < living / 100 else 0
        stopped = progress.idle >= 3 if self.sparsity is None else zeros + pruned >= goal
        progress.ended = step if stopped or pruning_events_left <= 1 else -1
        return max(pruned, 0), {**found, "admitted": admitted}

    def _check_replicas(self):
        """Raise RuntimeError if the replicas' masks differ; an update computes them once for all and would hide it."""
        weights, masks = self._pruned
        checks.check_masks(masks, [getattr(w, "path", w.name) for w in weights])

    def _counts(self):
        values = [ops.convert_to_numpy(backend_ops.read(mask)) for mask in self._pruned[1]]
        return sum(int(np.sum(v == 0)) for v in values), sum(v.size for v in values)


class CurvatureProbe:
    """The loss around the present weights, measured on demand and timed."""

    def __init__(self, roulette: PLLController, step: int):
        self._roulette, self._step = roulette, step
        self._masks = [backend_ops.read(mask) for mask in roulette._pruned[1]]

    def loss(self) -> float:
        return self._timed("loss", self._roulette._curvature.loss)

    def trace(self, probes: int) -> float:
        self._roulette.products += probes
        return self._timed("trace", self._roulette._curvature.trace, probes, self._step, self._masks)

    def eigenvalue(self, iterations: int) -> float:
        """By power iteration from where the last one stopped."""
        roulette = self._roulette
        roulette.products += iterations
        directions = [roulette._extra_state[f"direction_{i}"] for i in range(len(self._masks))]
        value, vectors = self._timed(
            "eigenvalue", roulette._curvature.top_eigenvalue, directions, iterations, self._masks
        )
        for direction, vector in zip(directions, vectors, strict=True):
            _write(direction, vector)
        return value

    def within(self, budget: float) -> int:
        weights = [backend_ops.read(weight) for weight in self._roulette._pruned[0]]
        return self._timed("within", topk.num_within_budget, weights, budget, self._masks)

    def _timed(self, kind, function, *arguments):
        begin, roulette = time.perf_counter(), self._roulette
        result = function(*arguments)  # a number, so it has been computed
        spent = time.perf_counter() - begin
        roulette.seconds += spent
        if kind not in roulette._called:
            roulette._called.add(kind)
            roulette.seconds_first += spent
        return result


def initial_extra_state(weights) -> dict:
    """The initial values of `_extra_state`: `{name: array}`."""
    directions = {f"direction_{i}": np.zeros(tuple(w.shape), "float32") for i, w in enumerate(weights)}
    return {"progress": rules.Progress().dump(), **directions}


def _write(variable, value):
    replicas.update(variable, lambda old, new: new, ops.cast(value, "float32"))


def _check_every(every):
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f"every={every!r}: expected training steps between checks, an integer >= 1, or None.")
    return every


def _check_end(end):
    if isinstance(end, bool) or not isinstance(end, (int, float)) or not 0 < end <= 1:
        raise ValueError(f"end={end!r}: expected a fraction of training in (0, 1], for example end=0.5.")
    return float(end)
