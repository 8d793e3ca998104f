"""What a DST callback does on both roads: it steers alpha to a target, and cuts at the end what is over."""

import functools

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

_FLOOR = 0.1  # of the share of weights that shall live: a layer with less than that has collapsed
_SLOWEST = 10  # steps that a push needs to be felt, with momentum


class TargetSparsityCallback(FinalCut):
    """Mixed into a callback of Keras 3 or tf_keras.

    sparsity: of all thresholded kernels together; None: nothing is steered and nothing cut. schedule: the way there.
    updates: how often at most alpha is set, evenly over a fit.
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
        if self.sparsity is not None:
            # where few weights shall live, thresholds must not be reset because few do
            for layer in self._layers():
                layer.lower_floors((1 - self.sparsity) * _FLOOR)
            if getattr(model, "train_function", None) is not None:
                model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        self._position = self._epoch_start = epoch * self.params["steps"]
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch, logs=None):
        before, self._position = self._position, self._epoch_start + batch + 1
        if self.sparsity is not None and self._position // self._period > before // self._period:
            self._steer()
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            layers = self._layers()
            logs["sparsity"] = _sparsity(layers)
            logs["alpha"] = float(backend_ops.to_numpy(layers[0].alpha))
            if self._values_before_cut and self.sparsity is not None:
                logs["uncut_sparsity"] = self._uncut_sparsity
        super().on_epoch_end(epoch, logs)

    def _begin_fit(self, first_epoch, num_steps):
        super()._begin_fit(first_epoch, num_steps)
        layers = self._checked_layers()
        self._total = self.params["epochs"] * self.params["steps"]
        self._period = max(self._total // self.updates, min(_SLOWEST, self._total // 20), 1)
        if self.sparsity is not None and self._is_new():
            # an earlier fit, or this one before it was killed, has left its scale and set alpha
            scale = float(backend_ops.to_numpy(layers[0].control)[0]) or float(backend_ops.to_numpy(layers[0].alpha)) or 5e-4
            begun = _sparsity(layers)
            self._remember(layers, PIDController(scale, actual=begun, start=begun))

    def _is_new(self):
        """Does training begin? A fit that resumes finds what it has to know in the layers."""
        return self._position == 0

    def _steer(self):
        layers = self._layers()
        control = PIDController(*backend_ops.to_numpy(layers[0].control).tolist())
        done = self.schedule(self._position / self._total)
        wanted = control.start + (self.sparsity - control.start) * done
        self._remember(layers, control.next(wanted, _sparsity(layers)))

    def _remember(self, layers, control):
        for layer in layers:
            layer.alpha.assign(control.alpha)
            layer.control.assign(np.array(control, "float32"))

    def _cut(self):
        if self.sparsity is None:
            return
        layers = self._layers()
        self._uncut_sparsity = _sparsity(layers)
        pairs = [pair for layer in layers for pair in zip(layer.kernels, layer.thresholds, strict=True)]
        values = [(backend_ops.read(k), backend_ops.read(t)) for k, t in pairs]
        living = topk.global_masks([thresholds.margin(*each) for each in values], self.sparsity)
        for variables, value, mask in zip(pairs, values, living, strict=True):
            for variable, new in zip(variables, thresholds.cut(*value, mask), strict=True):
                variable.assign(new)

    _restore_cut = _cut

    def _cut_variables(self):
        return [v for layer in self._layers() for v in (*layer.kernels, *layer.thresholds)]

    def _layers(self):
        return masked_layer.masked_layers(self.model)

    def _checked_layers(self):
        layers = self._layers()
        if not layers:
            raise ValueError(
                f"No layer of {self.model.name!r} has thresholds: write model = tfsparse.dst(model) and compile it "
                "before fit, or train it with tfsparse.Prune, which needs no wrappers."
            )
        return layers


def _sparsity(layers) -> float:
    """Pruned entries over all entries of the layers' kernels."""
    kernels = [backend_ops.read(k) for layer in layers for k in layer.kernels]
    living = _compiled_count()(kernels, [backend_ops.read(t) for layer in layers for t in layer.thresholds])
    return 1 - int(living) / sum(int(np.prod(k.shape)) for k in kernels)


@functools.cache
def _compiled_count():
    return backend_ops.compiled(_count)


def _count(kernels, limits):
    return sum(ops.sum(ops.cast(thresholds.margin(*pair) > 0, "int32")) for pair in zip(kernels, limits, strict=True))
