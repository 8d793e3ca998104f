"""What every pruning callback of both roads must know of a `fit`: its first epoch and its number of steps."""

import abc
import warnings
import weakref

from tfsparse.optimizers.recalibration import batch_normalizations

_callbacks = weakref.WeakKeyDictionary()  # the last callback that pruned in a fit, by what it prunes
_pruning = weakref.WeakSet()  # all callbacks that prune, since Keras does not show a callback its neighbours


class FitHooks(abc.ABC):
    """Mixed into a callback of Keras 3 or tf_keras. Calls `_begin_fit` once per `fit`, before its first step.

    The first epoch is known only in `on_epoch_begin`: a `fit` that resumes does not start at epoch 0.

    A subclass that has an attribute `total_steps` that is not None needs no dataset of known length.
    """

    _begun_with = None

    @abc.abstractmethod
    def _begin_fit(self, first_epoch: int, num_steps: int | None) -> None:
        """Prepare for a `fit`.

        Args:
            first_epoch: The epoch at which this `fit` starts, from 0.
            num_steps: Optimizer steps of this `fit`; None: the dataset's length is unknown.
        """

    @abc.abstractmethod
    def reached_target(self) -> bool | None:
        """Return whether the model is at its target sparsity now; None if there is no target."""

    def _batches_per_step(self) -> int:
        """Batches whose gradients are accumulated before each optimizer step."""
        return 1

    def _num_skipped(self) -> int:
        """Steps that the batches of this `fit` should have made and that the optimizer did not make."""
        return 0

    def set_params(self, params):
        super().set_params(params)
        _pruning.add(self)
        if params.get("steps") is None and getattr(self, "total_steps", None) is None:
            name = type(self).__name__
            other = f" or {name}(..., total_steps=<epochs x steps per epoch>)" if hasattr(self, "total_steps") else ""
            raise ValueError(
                f"The dataset's length is unknown, so {name} does not know how many steps training has. Write fit(..., "
                f"steps_per_epoch=...){other}."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if self._begun_with is self.params:
            return
        self._begun_with, steps = self.params, self.params.get("steps")
        batches = None if steps is None else (self.params["epochs"] - epoch) * steps
        self._begin_fit(epoch, None if batches is None else batches // self._batches_per_step())


def pruning_callback(params: dict | None) -> FitHooks | None:
    """Return the callback that prunes in a `fit`; None if there is none.

    Args:
        params: The `params` of any callback of this `fit`: Keras gives one dict to all of them.
    """
    return next((callback for callback in _pruning if params and callback.params is params), None)


def check_only_callback(callback, pruned, advice: str) -> None:
    """Refuse a second callback that prunes the same in one `fit`: it would replace the first.

    Args:
        callback: The callback that begins to train.
        pruned: The optimizer or the model that it prunes.
        advice: What to write instead of two callbacks.

    Raises:
        ValueError: If another callback of this `fit` prunes it too.
    """
    other = _callbacks.get(pruned, lambda: None)()
    if other not in (None, callback) and callback.params and other.params is callback.params:
        names = f"{type(other).__name__} and {type(callback).__name__}"
        raise ValueError(
            f"Two callbacks prune this model: {names}. The second would replace the first. Give fit one of them: "
            f"{advice}"
        )
    _callbacks[pruned] = weakref.ref(callback)


def check_reaches_end(name: str, done: int, num_steps: int, total: int, sparsity: float) -> None:
    """Refuse a `fit` that would end before the schedule reaches its last step.

    Args:
        name: Name of the callback, for the message.
        done: Optimizer steps of the schedule that earlier calls of `fit` have done.
        num_steps: Optimizer steps of this `fit`.
        total: Length of the schedule in optimizer steps.
        sparsity: Final sparsity of the schedule, for the message.

    Raises:
        ValueError: If `done + num_steps < total`.
    """
    if done + num_steps < total:
        raise ValueError(
            f"The schedule has done {done} of {total} steps and this fit has only {num_steps}, so it would end short "
            f"of sparsity {sparsity:g}. Train for more epochs, or write {name}(..., total_steps={total}) to spread one "
            "schedule over several fits."
        )


def warn_of_final_cut(model, done: int, total: int, sparsity: float, target: float, num_skipped: int = 0) -> None:
    """Warn that training ended before the schedule and that the weights are cut to the target now."""
    advice = "let training run to its end, or pass a smaller total_steps."
    if num_skipped:
        advice = (
            f"train longer: {num_skipped} of the steps were skipped. Float16 loss scaling skips a step whose gradients "
            "are not finite, and a train_step may skip some."
        )
    if batch_normalizations(model):
        advice += " After a cut, measure the statistics of BatchNormalization again: tfsparse.recalibrate(model, data)."
    warnings.warn(
        f"Training ended at step {done} of {total}, at a sparsity of {sparsity:.4f}: cut to the target {target:g} now, "
        f"without training after it. To avoid the cut {advice}",
        stacklevel=4,
    )


def warn_of_written_weights(before: float, sparsity: float) -> None:
    """Warn that a callback has written weights that the masks do not cover, and that they are pruned again."""
    warnings.warn(
        f"Another callback has written the weights after they were pruned, as EarlyStopping(restore_best_weights=True) "
        f"does: {before:.4f} of them were zero. They are pruned again to {sparsity:.4f}, without training after it. To "
        "restore only an epoch that has reached the target, write AtTarget(EarlyStopping(...)) in callbacks.",
        stacklevel=5,
    )
