"""The DST callback of both roads, without what each Keras forces: it sets alpha, and cuts at the end."""

import functools
import math

import numpy as np
from keras import ops

from tfsparse import schedules
from tfsparse.backend import ops as backend_ops
from tfsparse.callbacks.final_cut import FinalCut
from tfsparse.masks import topk
from tfsparse.methods.dst import thresholds
from tfsparse.methods.dst.pid_controller import PIDController
from tfsparse.optimizers import masked_layer
from tfsparse.pruners import selection

_MIN_KEPT = 0.1  # thresholds are reset if a layer keeps less than this fraction of the weights that the target keeps
_MIN_PERIOD = 10  # steps until a change of alpha shows in the sparsity, with momentum


class TargetSparsityCallback(FinalCut):
    """Mixed into a callback of Keras 3 or tf_keras.

    Args:
        sparsity: Zeros over entries of all thresholded kernels together, in [0, 1). Default: None: alpha is not set and
            nothing is cut.
        schedule: The way to the target: a schedule, its name or its config. Default: None, `Polynomial(start=0.0,
            end=0.75)`.
        updates: How often alpha is set in a fit, at most. Default: 400.
        data: What the cut is measured on. Default: None: it is not measured.
    """

    def __init__(self, sparsity: float | None = None, schedule=None, updates: int = 400, data=None):
        super().__init__(None if sparsity is None else data)
        self.sparsity = sparsity if sparsity is None else selection.check_sparsity(sparsity)
        self.schedule = schedules.get(schedule or schedules.Polynomial(start=0.0, end=0.75))
        if not isinstance(updates, int) or updates < 1:
            raise ValueError(f"updates={updates!r}: expected how often alpha is set in a fit, for example updates=400.")
        self.updates = updates

    def set_model(self, model):
        super().set_model(model)
        for layer in self._masked_layers():
            layer.sparsity = self.sparsity
        if self.sparsity is not None:
            # at a high target a layer may keep less than its floor without having collapsed
            for layer in self._masked_layers():
                layer.lower_floors((1 - self.sparsity) * _MIN_KEPT)
            if getattr(model, "train_function", None) is not None:
                model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._step = self._first_step = epoch * self.params["steps"]
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch, logs=None):
        before, self._step = self._step, self._first_step + batch + 1
        if self.sparsity is not None and self._step // self._period > before // self._period:
            self._update_alpha()
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            layers = self._masked_layers()
            logs["sparsity"] = _sparsity(layers)
            logs["alpha"] = float(backend_ops.to_numpy(layers[0].alpha))
            if self._values_before_cut and self.sparsity is not None:
                logs["uncut_sparsity"] = self._uncut_sparsity
        super().on_epoch_end(epoch, logs)

    def reached_target(self) -> bool | None:
        """Return whether exactly as many weights are pruned as the target says, as after the cut; None without one."""
        if self.sparsity is None:
            return None
        return _are_at(self.sparsity, self._masked_layers())

    def _begin_fit(self, first_epoch, num_steps):
        super()._begin_fit(first_epoch, num_steps)
        layers = self._masked_layers()
        if not layers:
            raise ValueError(
                f"No layer of {self.model.name!r} has thresholds: write model = tfsparse.dst(model) and compile it "
                "before fit, or train it with tfsparse.Prune, which needs no wrappers."
            )
        self._total_steps = self.params["epochs"] * self.params["steps"]
        self._period = max(self._total_steps // self.updates, min(_MIN_PERIOD, self._total_steps // 20), 1)
        if self.sparsity is not None and self._is_new():
            # an earlier fit, or this one before it was interrupted, has left its gain and its alpha
            state, alpha = backend_ops.to_numpy(layers[0].controller_state), backend_ops.to_numpy(layers[0].alpha)
            gain, initial = float(state[0]) or float(alpha) or 5e-4, _sparsity(layers)
            _set_controller(layers, PIDController(gain, actual=initial, initial=initial))

    def _is_new(self):
        """Return whether this fit starts at epoch 0. If not, it continues with the state in the layers."""
        return self._step == 0

    def _update_alpha(self):
        layers = self._masked_layers()
        controller = PIDController(*backend_ops.to_numpy(layers[0].controller_state).tolist())
        fraction = self.schedule(self._step / self._total_steps)
        target = controller.initial + (self.sparsity - controller.initial) * fraction
        _set_controller(layers, controller.updated(target, _sparsity(layers)))

    def _cut(self):
        if self.sparsity is None:
            return
        layers = self._masked_layers()
        self._uncut_sparsity = _sparsity(layers)
        pairs = [pair for layer in layers for pair in zip(layer.kernels, layer.thresholds, strict=True)]
        values = [(backend_ops.read(k), backend_ops.read(t)) for k, t in pairs]
        masks = topk.global_masks([thresholds.margin(*each) for each in values], self.sparsity)
        for variables, value, mask in zip(pairs, values, masks, strict=True):
            for variable, new in zip(variables, thresholds.cut(*value, mask), strict=True):
                variable.assign(new)

    _restore_cut = _cut

    def _prune_written_weights(self):
        if self.sparsity is not None:
            super()._prune_written_weights()

    def _zero_fraction(self):
        return _sparsity(self._masked_layers())

    def _cut_variables(self):
        return [v for layer in self._masked_layers() for v in (*layer.kernels, *layer.thresholds)]

    def _masked_layers(self):
        return masked_layer.masked_layers(self.model)


def unfinished(model) -> str | None:
    """Return one sentence if a model is from before the cut of the callback `DST`, else None.

    Args:
        model: A model of Keras 3 or tf_keras.
    """
    layers = masked_layer.masked_layers(model)
    sparsity = next((s for s in (getattr(layer, "sparsity", None) for layer in layers) if s is not None), None)
    if sparsity is None or _are_at(sparsity, layers):
        return None
    return (
        f"{model.name!r} is from before the target was reached: {_sparsity(layers):.4f} of its weights are pruned, the "
        f"target is {sparsity:g}, to which DST cuts after the last step."
    )


def _are_at(sparsity, layers) -> bool:
    """Return whether exactly as many weights are pruned as a target says."""
    return _num_kept_now(layers) == _size(layers) - topk.num_pruned(sparsity, _size(layers))


def _set_controller(layers, controller):
    for layer in layers:
        layer.alpha.assign(controller.alpha)
        layer.controller_state.assign(np.array(controller, "float32"))


def _sparsity(layers) -> float:
    """Return the pruned entries over all entries of the layers' kernels."""
    return 1 - _num_kept_now(layers) / _size(layers)


def _size(layers) -> int:
    return sum(math.prod(kernel.shape) for layer in layers for kernel in layer.kernels)


def _num_kept_now(layers) -> int:
    kernels = [backend_ops.read(k) for layer in layers for k in layer.kernels]
    limits = [backend_ops.read(t) for layer in layers for t in layer.thresholds]
    return sum(backend_ops.to_int(count) for count in _compiled(_num_kept)(kernels, limits))


_compiled = functools.cache(backend_ops.compiled)


def _num_kept(kernels, limits):
    return [ops.sum(ops.cast(thresholds.margin(*pair) > 0, "int32")) for pair in zip(kernels, limits, strict=True)]
