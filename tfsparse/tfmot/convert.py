"""Models of tf_keras as Keras 3 models and back: the same layers, weights and masks."""

import inspect
import warnings

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from keras.src.models.functional import Functional
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude as TheirWrapper
from tf_keras.src.engine.functional import Functional as LegacyFunctional

from tfsparse.optimizers import compiled_model
from tfsparse.optimizers.sparse_optimizer import SparseOptimizer
from tfsparse.pruners import selection
from tfsparse.tfmot import layer_configs, schedules
from tfsparse.tfmot.layer_configs import exchanged, given, new_name, own_weights
from tfsparse.tfmot.wrapper import PruneLowMagnitude


def to_keras3(model: tf_keras.Model, optimizer=None) -> keras.Model:
    """The Keras 3 model with the layers, names and weights of a tf_keras model. Pruning wrappers, TFMOT's or ours,
    vanish and leave `weight * mask`. In names "/", which Keras 3 does not allow, becomes "_".

    Args:
        model: built Sequential or Functional model of layers that both Kerases have; models inside are converted too.
        optimizer: Keras 3 optimizer or its name; the result is compiled with it, and if `model` has masks, with a
            `SparseOptimizer` around it that holds them as they are. Compile again to add a loss. A frozen layer's mask
            is not held: the layer is not trained.

    Returns: a Sequential or Functional model. Loss, metrics and an overridden `train_step` stay behind.

    Raises: ValueError that names every layer that cannot be converted, and says why.

    >>> model = tfsparse.tfmot.to_keras3(wrapped, "adam")
    >>> model.compile(model.optimizer, loss="mse")
    """
    conversion = _ToKeras3(model)
    result = conversion.result()
    if optimizer is not None:
        result.compile(_holding(keras.optimizers.get(optimizer), conversion.held, result))
    return result


def from_keras3(model: keras.Model) -> tf_keras.Model:
    """The tf_keras model with the layers, names and weights of a Keras 3 model. If its optimizer has masks, the pruned
    layers are wrapped in `tfsparse.tfmot.PruneLowMagnitude`, which holds the masks as they are.

    Args:
        model: built Sequential or Functional model of layers that both Kerases have; models inside are converted too.

    Returns: a Sequential or Functional model, to be compiled. Loss, metrics and an overridden `train_step` stay behind.

    Raises: ValueError that names every layer that cannot be converted, and says why.

    >>> wrapped = tfsparse.tfmot.from_keras3(model)
    """
    return _FromKeras3(model).result()


class _Conversion:
    """One conversion: what stands for what, and why something cannot.

    Args:
        model: the whole of it.
    """

    source = target = functional = None

    def __init__(self, model):
        self.model = model
        self.masks = {}  # of the given weights, by id
        self.held = []  # (new weight, its mask)
        self.faults = {}
        self._pairs, self._made, self._own = [], {}, set()

    def result(self):
        """The converted model with its weights."""
        if not isinstance(self.model, self.source.Model):
            raise ValueError(f"Expected a model of {self.source.__name__}, got {self.model!r}.")
        result = self._model(self.model)
        self._raise_faults()
        for old, new in self._pairs:
            self._copy(old, new)
        self._raise_faults()
        known = self._own | {id(w) for old, _ in self._pairs for w in own_weights(old)}
        for left in [w for w in self.model.weights if id(w) not in known]:
            self.faults[id(left)] = f"{left.name}: it is a weight of a model and of none of its layers"
        self._raise_faults()
        return result

    def _model(self, model):
        """A model, also one inside another; None if something in it cannot be converted."""
        sequential = isinstance(model, self.source.Sequential)
        if not sequential and not (isinstance(model, self.functional) and type(model).call is self.functional.call):
            return self._fault(model, "it is a subclassed model, whose layers only its Python code connects")
        if not model.built or not getattr(model, "inputs", None):
            return self._fault(model, "it is not built: give it an Input, or call model.build(input_shape)")
        calls = [] if sequential else self.calls(model)
        parts = [self._layer(part) for part in (model.layers if sequential else [layer for layer, *_ in calls])]
        inputs = {id(t): self._input(t) for t in model.inputs}
        if self.faults:
            return None
        try:
            result = self._chain(model, inputs, parts) if sequential else self._connect(model, inputs, calls)
        except Exception as error:  # whatever Keras finds wrong: it is to be reported as the rest
            return self._fault(model, error)
        if result is not None and not model.trainable:
            result.trainable = False
        return result

    def _chain(self, model, inputs, parts):
        return self.target.Sequential([*inputs.values(), *parts], name=new_name(model.name))

    def _connect(self, model, tensors, calls):
        for layer, args, kwargs, outputs in calls:
            args, kwargs = exchanged((args, kwargs), tensors)
            try:
                results = self._call(layer, args, kwargs)
            except Exception as error:  # whatever Keras finds wrong: the user is to read which layer it is
                return self._fault(layer, error)
            tensors |= zip(map(id, tf.nest.flatten(outputs)), tf.nest.flatten(results), strict=True)
        inputs, outputs = exchanged((model.input, model.output), tensors)
        return self.target.Model(inputs, outputs, name=new_name(model.name))

    def _call(self, layer, args, kwargs):
        new = self._layer(layer)
        if not isinstance(new, self.target.layers.Layer):
            return layer_configs.call_operation(new, args, kwargs)
        return new(*args, **kwargs)

    def _input(self, tensor):
        owner = tensor._keras_history[0]
        if getattr(owner, "sparse", False) or getattr(owner, "ragged", False):
            return self._fault(owner, "sparse and ragged inputs are not converted")
        return self.target.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=new_name(owner.name))

    def _layer(self, layer):
        """The new layer of an old one, always the same; for an operation in the graph, a function."""
        if id(layer) not in self._made:
            try:
                self._made[id(layer)] = layer_configs.operation(layer) or self.make(layer)
            except Exception as error:  # from the constructors of Keras, too
                self._made[id(layer)] = self._fault(layer, error)
        return self._made[id(layer)]

    def make(self, layer):
        """A new layer, or the model that it is."""
        if isinstance(layer, self.source.Model):
            return self._model(layer)
        if isinstance(layer, self.source.layers.TimeDistributed) and isinstance(layer.layer, self.source.Model):
            inner = self._layer(layer.layer)
            return inner and layer_configs.counterpart(layer, self.source, self.target, inner)
        new = layer_configs.counterpart(layer, self.source, self.target)
        self._pairs.append((layer, new))
        return new

    def _copy(self, old, new):
        weights, variables = own_weights(old), own_weights(new)
        if not layer_configs.fit(weights, variables):
            theirs, ours = ([(w.name, tuple(w.shape)) for w in own] for own in (weights, variables))
            return self._fault(old, f"its weights {theirs} do not fit the new layer's {ours}")
        for weight, variable in zip(weights, variables, strict=True):
            mask = self.masks.get(id(weight))
            variable.assign(weight.numpy() if mask is None else np.where(mask > 0, weight.numpy(), 0))
            if mask is not None:
                self.held.append((variable, mask))
        if weights and hasattr(new, "finalize_state"):
            new.finalize_state()  # Normalization computes with what it makes of its weights
        return None

    def _fault(self, layer, reason) -> None:
        lines = str(reason).strip().splitlines() or [repr(reason)]
        line = next((line for line in lines if line.startswith("Exception encountered:")), lines[0])
        self.faults.setdefault(id(layer), f"{layer.name} ({type(layer).__name__}): {line}")

    def _raise_faults(self):
        if self.faults:
            raise ValueError(
                f"{self.model.name!r} cannot be converted from {self.source.__name__} to {self.target.__name__}. "
                "Replace these layers by layers that both have, or build the model anew there and copy the weights "
                "with set_weights:\n  " + "\n  ".join(self.faults.values())
            )


class _ToKeras3(_Conversion):
    source, target, functional = tf_keras, keras, LegacyFunctional

    def calls(self, model):
        """(layer, arguments, keywords, outputs) of every call, in order."""
        depths = sorted(model._nodes_by_depth, reverse=True)
        nodes = [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]
        return [(node.layer, node.call_args, node.call_kwargs, node.outputs) for node in nodes]

    def make(self, layer):
        if not isinstance(layer, TheirWrapper):
            return super().make(layer)
        inner = {id(w) for w in layer.layer.weights}
        self._own |= {id(w) for w in layer.weights if id(w) not in inner}
        self.masks |= {id(weight): mask.numpy() for weight, mask, _ in layer.pruning_vars}
        return self._layer(layer.layer)

    def _call(self, layer, args, kwargs):
        if kwargs.get("training") is not None:
            warnings.warn(
                f"{layer.name} is called with training={kwargs['training']}. Keras 3 keeps that where the model is "
                "called as model(x), and overrules it in fit, evaluate and predict: freeze what is not to be trained.",
                stacklevel=6,
            )
        layer = layer.layer if isinstance(layer, TheirWrapper) else layer
        recurrent = isinstance(layer, (tf_keras.layers.RNN, tf_keras.layers.Bidirectional))
        if recurrent and isinstance(args[0], (list, tuple)):  # tf_keras joins the states to the input
            kwargs = {k: v for k, v in kwargs.items() if v is not None} | {"initial_state": list(args[0][1:])}
            args = (args[0][0], *args[1:])
        results = super()._call(layer, args, kwargs)
        if hasattr(layer, "symbol"):
            # Keras 3 counts the names of its operations without regard to layers
            tf.nest.flatten(results)[0]._keras_history.operation.name = new_name(layer.name)
        return results


class _FromKeras3(_Conversion):
    source, target, functional = keras, tf_keras, Functional

    def __init__(self, model):
        super().__init__(model)
        optimizer = compiled_model.sparse_optimizer(model) if isinstance(model, keras.Model) else None
        if optimizer is not None and optimizer.built:
            pairs = zip(optimizer.pruned_variables, optimizer.masks, strict=True)
            self.masks = {id(variable): mask.numpy() for variable, mask in pairs}
        self._wrappers = []

    def result(self):
        result = super().result()
        masks = {id(weight): mask for weight, mask in self.held}
        for wrapper in self._wrappers:
            for weight, variable, threshold in wrapper.pruning_vars:
                mask = masks.pop(id(weight))
                variable.assign(mask)
                threshold.assign(np.min(np.abs(weight.numpy())[mask > 0]))
            wrapper.pruning_step.assign(1)  # the schedule lies behind
        return result

    def calls(self, model):
        """As above, without the computation of masks that the layers of tf_keras do themselves."""
        needed, found = {id(t) for t in keras.tree.flatten(model.output)}, []
        for depth in sorted(model._nodes_by_depth):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input and any(id(t) in needed for t in node.outputs):
                    args, kwargs = node.arguments.args, given(node)
                    needed |= {id(t) for t in keras.tree.flatten((args, kwargs))}
                    found.append((node.operation, args, kwargs, node.outputs))
        return found[::-1]

    def _call(self, layer, args, kwargs):
        new = self._layer(layer)
        if isinstance(new, PruneLowMagnitude):
            if not new.layer.built:
                new.layer(*args, **kwargs)  # MultiHeadAttention has no weights before
            names = list(inspect.signature(layer.call).parameters)  # the wrapper's second argument is `training`
            args, kwargs = args[:1], dict(zip(names[1:], args[1:], strict=False)) | kwargs
        return super()._call(layer, args, kwargs)

    def make(self, layer):
        new = super().make(layer)
        positions = [i for i, w in enumerate(own_weights(layer)) if id(w) in self.masks]
        if not positions or isinstance(layer, keras.Model):
            return new
        if isinstance(new.layer if isinstance(layer, keras.layers.TimeDistributed) else None, tf_keras.Model):
            raise ValueError("the model in it has masks, and TFMOT's tools find no wrappers there")
        new.get_prunable_weights = lambda: [own_weights(new)[i] for i in positions]
        masks = [self.masks[id(own_weights(layer)[i])] for i in positions]
        sparsity = sum(int(np.sum(m == 0)) for m in masks) / sum(m.size for m in masks)
        self._wrappers.append(PruneLowMagnitude(new, schedules.Constant(sparsity, end_step=1)))
        return self._wrappers[-1]


def _holding(optimizer, held, model):
    """A `SparseOptimizer` whose masks are these and stay; the plain optimizer if there are none."""
    masks = {id(variable): (variable, mask) for variable, mask in held if variable.trainable}
    if not masks:
        return optimizer
    zeros = sum(int(np.sum(mask == 0)) for _, mask in masks.values())
    sparsity = zeros / sum(mask.size for _, mask in masks.values())
    sparse = SparseOptimizer(optimizer, schedule="constant", sparsity=sparsity, total_steps=2)
    for variable, mask in masks.values():
        sparse.set_sparsity(variable, float(np.mean(mask == 0, dtype="float64")))
    dense = [v for v in model.trainable_variables if id(v) not in masks and selection.is_prunable(v)]
    sparse.exclude_from_pruning(dense)
    done = optimizer.iterations.numpy()
    optimizer.iterations.assign(done - sparse.total_steps)  # so that the schedule has ended when training begins
    sparse.build(model.trainable_variables)
    optimizer.iterations.assign(done)
    for variable, mask in masks.values():
        sparse.mask(variable).assign(mask)
    return sparse
