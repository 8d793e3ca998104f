"""Models of tf_keras as Keras 3 models and back: the same layers, weights and masks."""

import abc
import inspect
import warnings

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude as StockWrapper

from tfsparse.backend import keras_internals
from tfsparse.optimizers import compiled_model, fixed_masks
from tfsparse.tfmot import layer_configs, schedules
from tfsparse.tfmot.prune import warn_of_unfinished
from tfsparse.tfmot.wrapper import PruneLowMagnitude


def to_keras3(model: tf_keras.Model, optimizer=None) -> keras.Model:
    """Return the Keras 3 model with the layers, names and weights of a tf_keras model.

    Pruning wrappers, TFMOT's or ours, are removed, and the weights become `weight * mask`. In names "/" becomes "_",
    since Keras 3 does not allow it. Loss, metrics and an overridden `train_step` are not converted.

    Args:
        model: A built Sequential or Functional model of layers that both Kerases have; models inside are converted too.
        optimizer: A Keras 3 optimizer or its name, with which the result is compiled. If `model` has masks, a
            `SparseOptimizer` around it keeps them as they are, except those of frozen layers, which are not trained.
            Compile again to add a loss. Default: None, the result is not compiled.

    Returns:
        A Sequential or Functional model.

    Raises:
        ValueError: If layers cannot be converted: the message names all of them, with the reasons.

    Examples:
        >>> model = tfsparse.tfmot.to_keras3(wrapped, "adam")
        >>> model.compile(model.optimizer, loss="mse")
    """
    conversion = _ToKeras3(model)
    result = conversion.run()
    warn_of_unfinished(model)
    for message in conversion.warnings:
        warnings.warn(message, stacklevel=2)
    if optimizer is not None:
        result.compile(optimizer)
        masks = [pair for pair in conversion.new_masks if pair[0].trainable]
        if masks:
            fixed_masks.train_with(result, masks)
    return result


def from_keras3(model: keras.Model) -> tf_keras.Model:
    """Return the tf_keras model with the layers, names and weights of a Keras 3 model.

    If the model's optimizer has masks, the pruned layers are wrapped in `tfsparse.tfmot.PruneLowMagnitude`, which keeps
    the masks as they are. Loss, metrics and an overridden `train_step` are not converted.

    Args:
        model: A built Sequential or Functional model of layers that both Kerases have; models inside are converted too.

    Returns:
        A Sequential or Functional model, which must be compiled to be trained.

    Raises:
        ValueError: If layers cannot be converted: the message names all of them, with the reasons.

    Examples:
        >>> wrapped = tfsparse.tfmot.from_keras3(model)
    """
    conversion = _FromKeras3(model)
    result = conversion.run()
    conversion.set_wrapper_masks()
    return result


class _Conversion(abc.ABC):
    """One conversion. Subclasses know the calls in the graphs of one Keras, and where it keeps masks.

    Attributes:
        source: The module that the model is of, keras or tf_keras.
        target: The other one.
        masks: Masks of the source's weights, by id.
        new_masks: Pairs of a new variable and its mask.
    """

    source = target = None

    def __init__(self, model):
        if not isinstance(model, self.source.Model):
            raise ValueError(f"Expected a model of {self.source.__name__}, got {model!r}.")
        self.model, self.masks, self.new_masks = model, {}, []
        self._pairs = []  # (layer, new layer), for layers with weights of their own
        self._new = {}  # what was made of a layer, by its id
        self._without_pair = set()  # ids of the weights that have no counterpart
        self._problems = {}  # lines for the user, by the id of the layer

    @abc.abstractmethod
    def _calls(self, model) -> list[tuple]:
        """Return (layer, arguments, keywords, outputs) of every call in a model, in order, as the target takes them."""

    @abc.abstractmethod
    def _wrapped(self, layer, new):
        """Return the new layer of `layer`, in a pruning wrapper if `layer` has masks and the target needs one."""

    def run(self):
        """Return the converted model with its weights."""
        result = self._convert(self.model)
        self._raise_problems()
        for old, new in self._pairs:
            self._attempt(old, self._copy_weights, old, new)
        known = self._without_pair | {id(w) for old, _ in self._pairs for w in own_weights(old)}
        for weight in self.model.weights:
            if id(weight) not in known:
                self._problems[id(weight)] = f"{weight.name}: it is a weight of a model and of none of its layers"
        self._raise_problems()
        return result

    def _attempt(self, layer, function, *args):
        """Return the result of a function. If it fails, add the layer to the problems and return None."""
        try:
            return function(*args)
        except Exception as error:  # the constructors and calls of Keras raise errors of any class
            lines = str(error).strip().splitlines() or [repr(error)]
            line = next((line for line in lines if line.startswith("Exception encountered:")), lines[0])
            self._problems.setdefault(id(layer), f"{layer.name} ({type(layer).__name__}): {line}")

    def _raise_problems(self):
        if self._problems:
            raise ValueError(
                f"{self.model.name!r} cannot be converted from {self.source.__name__} to {self.target.__name__}. "
                "Replace these layers by layers that both have, or build the model anew there and copy the weights "
                "with set_weights:\n  " + "\n  ".join(self._problems.values())
            )

    def _convert(self, layer):
        """Return the new layer, model or function of a layer, model or operation; always the same one."""
        if id(layer) not in self._new:
            convert = self._new_model if isinstance(layer, self.source.Model) else self._new_layer
            self._new[id(layer)] = layer_configs.operation(layer) or self._attempt(layer, convert, layer)
        return self._new[id(layer)]

    def _new_layer(self, layer):
        inner = []
        if isinstance(layer, self.source.layers.TimeDistributed) and isinstance(layer.layer, self.source.Model):
            inner = [self._convert(layer.layer)]
        if None in inner:
            return None
        new = layer_configs.counterpart(layer, self.source, self.target, *inner)
        if not inner:
            self._pairs.append((layer, new))
        return self._wrapped(layer, new)

    def _new_model(self, model):
        sequential = isinstance(model, self.source.Sequential)
        if not sequential and type(model).call is not keras_internals.functional_class(self.source).call:
            raise ValueError("it is a subclassed model, whose layers only its Python code connects")
        if not model.built or not getattr(model, "inputs", None):
            raise ValueError("it is not built: give it an Input, or call model.build(input_shape)")
        calls, name = self._calls(model), layer_configs.new_name(model.name)
        layers = [self._convert(layer) for layer, *_ in calls]
        tensors = {id(t): self._attempt(keras_internals.operation_of(t), self._new_input, t) for t in model.inputs}
        if self._problems:
            return None
        if sequential:
            result = self.target.Sequential([*tensors.values(), *layers], name=name)
        else:
            for layer, args, kwargs, outputs in calls:
                results = self._attempt(layer, self._call, layer, *_with_tensors((args, kwargs), tensors))
                if self._problems:
                    return None
                tensors |= zip(map(id, tf.nest.flatten(outputs)), tf.nest.flatten(results), strict=True)
            result = self.target.Model(*_with_tensors((model.input, model.output), tensors), name=name)
        if not model.trainable:
            result.trainable = False
        return result

    def _new_input(self, tensor):
        owner = keras_internals.operation_of(tensor)
        if getattr(owner, "sparse", False) or getattr(owner, "ragged", False):
            raise ValueError("sparse and ragged inputs are not converted")
        name = layer_configs.new_name(owner.name)
        return self.target.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=name)

    def _call(self, layer, args, kwargs):
        new = self._convert(layer)
        if isinstance(new, PruneLowMagnitude) and not new.layer.built:
            new.layer(*args, **kwargs)  # MultiHeadAttention has no weights before its first call
        return new(*args, **kwargs)

    def _copy_weights(self, old, new):
        weights, variables = own_weights(old), own_weights(new)
        if not _fit(weights, variables):
            shapes, new_shapes = ([(w.name, tuple(w.shape)) for w in own] for own in (weights, variables))
            raise ValueError(f"its weights {shapes} do not fit the new layer's {new_shapes}")
        for weight, variable in zip(weights, variables, strict=True):
            mask = self.masks.get(id(weight))
            variable.assign(weight.numpy() if mask is None else np.where(mask > 0, weight.numpy(), 0))
            if mask is not None:
                self.new_masks.append((variable, mask))
        if weights and hasattr(new, "finalize_state"):
            new.finalize_state()  # Normalization computes with what it derives from its weights


class _ToKeras3(_Conversion):
    source, target = tf_keras, keras

    def __init__(self, model):
        super().__init__(model)
        self.warnings = []

    def _calls(self, model):
        return [self._keras3_call(node) for node in keras_internals.nodes(keras_internals.graph(model))]

    def _keras3_call(self, node):
        layer, args, kwargs = node.layer, node.call_args, node.call_kwargs
        if kwargs.get("training") is not None:
            self.warnings.append(
                f"{layer.name} is called with training={kwargs['training']}. Keras 3 keeps that where the model is "
                "called as model(x), and overrules it in fit, evaluate and predict: freeze what is not to be trained."
            )
        if isinstance(layer, StockWrapper):
            self.masks |= {id(weight): mask.numpy() for weight, mask, _ in layer.pruning_vars}
            self._without_pair |= {id(w) for w in layer.weights} - {id(w) for w in layer.layer.weights}
            layer = layer.layer
        recurrent = isinstance(layer, (tf_keras.layers.RNN, tf_keras.layers.Bidirectional))
        if recurrent and isinstance(args[0], (list, tuple)):  # tf_keras joins the states to the input
            kwargs = {k: v for k, v in kwargs.items() if v is not None} | {"initial_state": list(args[0][1:])}
            args = (args[0][0], *args[1:])
        return layer, args, kwargs, node.outputs

    def _wrapped(self, layer, new):
        return new


class _FromKeras3(_Conversion):
    source, target = keras, tf_keras

    def __init__(self, model):
        super().__init__(model)
        optimizer = compiled_model.sparse_optimizer(model)
        if optimizer is not None and optimizer.built:
            pairs = zip(optimizer.pruned_variables, optimizer.masks, strict=True)
            self.masks = {id(variable): mask.numpy() for variable, mask in pairs}
        self._wrappers = []

    def set_wrapper_masks(self):
        """Set the masks of the new wrappers, with their schedules at the end."""
        masks = {id(variable): mask for variable, mask in self.new_masks}
        for wrapper in self._wrappers:
            for weight, variable, threshold in wrapper.pruning_vars:
                mask = masks[id(weight)]
                variable.assign(mask)
                threshold.assign(np.min(np.abs(weight.numpy())[mask > 0]))
            wrapper.pruning_step.assign(1)

    def _calls(self, model):
        """Leave out the operations that compute Keras masks: layers of tf_keras compute them themselves."""
        needed, calls = {id(t) for t in model.outputs}, []
        for node in reversed(keras_internals.nodes(keras_internals.graph(model))):
            if any(id(t) in needed for t in node.outputs):
                args, kwargs = node.arguments.args, _explicit_keywords(node)
                needed |= {id(t) for t in keras.tree.flatten((args, kwargs))}
                if isinstance(node.operation, keras.layers.Layer):  # the second argument of a wrapper is `training`
                    names = list(inspect.signature(node.operation.call).parameters)
                    args, kwargs = args[:1], dict(zip(names[1:], args[1:], strict=False)) | kwargs
                calls.append((node.operation, args, kwargs, node.outputs))
        return calls[::-1]

    def _wrapped(self, layer, new):
        positions = [i for i, w in enumerate(own_weights(layer)) if id(w) in self.masks]
        if not positions:
            return new
        if isinstance(layer, keras.layers.TimeDistributed) and isinstance(layer.layer, keras.Model):
            raise ValueError("the model in it has masks, and TFMOT's tools find no wrappers there")
        new.get_prunable_weights = lambda: [own_weights(new)[i] for i in positions]
        masks = [self.masks[id(own_weights(layer)[i])] for i in positions]
        self._wrappers.append(PruneLowMagnitude(new, schedules.Constant(_sparsity(masks), end_step=1)))
        return self._wrappers[-1]


def own_weights(layer) -> list:
    """Return the weights of a layer in an order that freezing does not change: its own, then those of inner layers."""
    inner = [w for child in keras_internals.inner_layers(layer) for w in own_weights(child)]
    outer = [w for w in layer.weights if all(w is not i for i in inner)]
    return list({id(w): w for w in outer + inner}.values())


def _fit(weights, variables):
    """Equal shapes and names; the `depthwise_kernel` of tf_keras is a `kernel` in Keras 3."""
    if [tuple(w.shape) for w in weights] != [tuple(v.shape) for v in variables]:
        return False
    names = [[v.name.split("/")[-1].split(":")[0] for v in own] for own in (weights, variables)]
    return all(a.endswith(b) or b.endswith(a) for a, b in zip(*names, strict=True))


def _with_tensors(structure, tensors):
    """Return the structure with new tensors in place of old ones, and with arrays in place of constants."""

    def new(value):
        return tensors[id(value)] if id(value) in tensors else value.numpy() if isinstance(value, tf.Tensor) else value

    return keras.tree.map_structure(new, structure)


def _explicit_keywords(node):
    """Return the keywords of a call in Keras 3, without those that Keras 3 fills in.

    These are the masks of the inputs, and `training`, which it overrules anyway when a model is trained or used.
    """
    filled_in = {id(None), *(id(keras_internals.mask_of(t)) for t in node.arguments.keras_tensors)}
    return {
        name: value
        for name, value in node.arguments.kwargs.items()
        if name != "training"
        and not (name.endswith("mask") and all(id(mask) in filled_in for mask in keras.tree.flatten(value)))
    }


def _sparsity(masks):
    return sum(int(np.sum(mask == 0)) for mask in masks) / sum(mask.size for mask in masks)
