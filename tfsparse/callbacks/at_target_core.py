"""The callback `AtTarget` of both roads, without what each Keras forces."""

import abc
import functools

from tfsparse.callbacks.fit_hooks import FitHooks, pruning_callback

_BATCHES = ("on_train_batch_begin", "on_train_batch_end")
_FORMER_BATCHES = ("on_batch_begin", "on_batch_end")  # Keras calls them too
_EVALUATIONS = tuple(
    (f"on_{run}_begin", f"on_{run}_batch_begin", f"on_{run}_batch_end", f"on_{run}_end") for run in ("test", "predict")
)
_EPOCHS = ("on_epoch_begin", "on_epoch_end")


class AtTargetCore(abc.ABC):
    """Mixed into a callback of Keras 3 or tf_keras: another callback sees only the epochs that end at the target.

        set_params, set_model, on_train_begin, on_train_end:   always passed on
        on_epoch_end:     passed on if the model is at its target now
        on_epoch_begin:   passed on after every end that was, and right before the first one
        batches:          passed on if the epoch begins at the target
        evaluations:      passed on from begin to end if the model is at its target when they begin

    It has hooks for batches and evaluations only if the other callback has them: with such hooks Keras waits for every
    step.

    Args:
        callback: The other callback.
    """

    def __init__(self, callback):
        super().__init__()
        self.callback, self._passed_end, self._is_open = callback, False, None
        self._check(callback)
        if self._overrides(_BATCHES + _FORMER_BATCHES):
            self._pass_hooks(_BATCHES, self._pass_batch)
        for hooks in filter(self._overrides, _EVALUATIONS):
            self._pass_hooks(hooks, self._pass_evaluation)

    # ---- what each road provides ------------------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def _keras_callback(self) -> type:
        """The base class of the callbacks of this Keras."""

    @property
    @abc.abstractmethod
    def _stateless(self) -> tuple[type, ...]:
        """Callbacks of this Keras that must see every epoch."""

    @property
    @abc.abstractmethod
    def _expected(self) -> str:
        """What `callback` should have been, for a message."""

    @abc.abstractmethod
    def _model_reached_target(self) -> bool | None:
        """Return whether a model that no callback prunes is at its target; None without one."""

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def set_params(self, params):
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self._is_open = None  # known at the first batch: other callbacks may set the target in on_epoch_begin
        self.callback.on_train_begin(logs)

    def on_train_end(self, logs=None):
        self.callback.on_train_end(logs)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._has_begun = epoch, False
        if self._is_open is None:
            self._is_at_target()  # to raise before the first step
        if self._passed_end:
            self._begin_epoch()

    def on_epoch_end(self, epoch, logs=None):
        self._is_open = self._passed_end = self._is_at_target()
        if self._is_open:
            self._begin_epoch()
            self.callback.on_epoch_end(epoch, logs)

    def _pass_batch(self, hook, *args, **kwargs):
        if self._is_open is None:
            self._is_open = self._is_at_target()
        if self._is_open:
            self._begin_epoch()
            getattr(self.callback, hook)(*args, **kwargs)

    def _pass_evaluation(self, hook, *args, **kwargs):
        if hook in ("on_test_begin", "on_predict_begin"):
            self._passes_evaluation = self._is_at_target()
        if self._passes_evaluation:
            getattr(self.callback, hook)(*args, **kwargs)

    def _begin_epoch(self):
        if not self._has_begun:
            self._has_begun = True
            self.callback.on_epoch_begin(self._epoch)

    def _is_at_target(self):
        pruning = pruning_callback(self.params)
        reached = pruning.reached_target() if pruning else self._model_reached_target()
        if reached is None:
            raise ValueError(
                f"Nothing prunes {self.model.name!r} to a target, so AtTarget would never pass an epoch on to "
                f"{type(self.callback).__name__}. Write callbacks=[Prune('one_cycle', sparsity=0.9), AtTarget(...)]."
            )
        return reached

    # ---- the other callback -----------------------------------------------------------------------------------------

    def _check(self, callback):
        name = type(callback).__name__
        if not isinstance(callback, self._keras_callback):
            raise TypeError(f"AtTarget got {callback!r}: expected {self._expected}.")
        evaluations = sum(_EVALUATIONS, ())
        has_hooks = self._overrides(_EPOCHS + _BATCHES + _FORMER_BATCHES + evaluations)
        if isinstance(callback, (FitHooks, AtTargetCore, *self._stateless)) or not has_hooks:
            raise ValueError(
                f"AtTarget got {name}, which neither keeps the best epoch nor stops training, so there is nothing to "
                f"hold back. Give it to fit itself: callbacks=[..., {name}(...)]."
            )

    def _overrides(self, hooks):
        """Return whether the other callback has any of these hooks itself."""
        own = (getattr(getattr(self.callback, hook), "__func__", None) for hook in hooks)
        return any(mine is not getattr(self._keras_callback, hook) for mine, hook in zip(own, hooks, strict=True))

    def _pass_hooks(self, hooks, pass_on):
        for hook in hooks:
            setattr(self, hook, functools.partial(pass_on, hook))
