"""Every private attribute of Keras, tf_keras and TensorFlow that the package touches, one named function each.

A new release of Keras breaks this file and no other.
"""

import contextlib
import functools
from typing import NamedTuple


def all_layers(model) -> list:
    """Return the model itself, its layers, and the layers inside those, at any depth.

    Public `model.layers` knows only the first level, and a layer's own sublayers have no public list.
    """
    return list(model._flatten_layers(include_self=True, recursive=True))


# ---- optimizers ------------------------------------------------------------------------------------------------------


def trained_variables(optimizer) -> list:
    """Return the model variables that a built Keras 3 optimizer trains, in its order.

    `optimizer.variables` holds the optimizer's own state; the list of what it trains has no public name.
    """
    return optimizer._trainable_variables


def variable_index(optimizer, variable) -> int | None:
    """Return the position of a model variable among those that a built Keras 3 optimizer trains; None if it does not.

    On TensorFlow an optimizer may hand over the backend's own variable, which only these keys recognise.
    """
    return optimizer._trainable_variables_indices.get(optimizer._var_key(variable))


def check_known(optimizer, variables) -> None:
    """Refuse variables that a built Keras 3 optimizer was not built on, with Keras's own sentence.

    Public `apply` says it too, but only after the work that an optimizer of ours does before.
    """
    optimizer._check_variables_are_known(variables)


def set_trained_variables(optimizer, variables) -> None:
    """Tell a Keras 3 optimizer around another one which variables are trained.

    Public `build` would also create averages and gradient accumulators, which are the inner optimizer's. The list is
    extended: one that is assigned would be tracked as the optimizer's own variables.
    """
    for index, variable in enumerate(variables):
        optimizer._trainable_variables_indices[optimizer._var_key(variable)] = index
    optimizer._trainable_variables.extend(variables)
    optimizer.built = True


def shows_inner_averages(wrapper: type) -> type:
    """Return a class of Keras 3 optimizers around others, changed so that they show the inner one's averages as theirs.

    `SwapEMAWeights` looks for a list with a private name, and no further than one optimizer inside another.
    """
    name = "_model_variables_moving_average"
    setattr(wrapper, name, property(lambda self: getattr(self.inner_optimizer, name)))
    return wrapper


def is_average(path: tuple) -> bool:
    """Return whether an optimizer keeps moving averages of weights there; `use_ema` has no public name for its list."""
    return "_model_variables_moving_average" in path


class Place(NamedTuple):
    """Where an optimizer keeps what belongs to one variable: at a position of lists, and under keys of dicts."""

    position: int
    num_variables: int
    keys: tuple


def place(optimizer, variable) -> Place | None:
    """Return where a built optimizer of Keras 3 or tf_keras keeps what belongs to a variable; None if it trains it not.

    Momenta and averages have no public list: optimizers keep them in attributes under names of their own.
    """
    own = (id(variable), getattr(variable, "path", variable.name))
    if hasattr(optimizer, "get_slot_names"):  # a legacy one of tf_keras: a dict by variable
        return Place(-1, -1, (getattr(variable, "_distributed_container", lambda: variable)()._unique_id, *own))
    positions = vars(optimizer).get("_trainable_variables_indices") or vars(optimizer).get("_index_dict") or {}
    key = optimizer._var_key(variable)
    return Place(positions[key], len(positions), (key, *own)) if key in positions else None


def is_optimizer(item) -> bool:
    """Return whether something is an optimizer of Keras 3 or tf_keras, new or legacy; they have no class in common."""
    return hasattr(item, "_var_key") or hasattr(item, "get_slot_names")


def attributes(optimizer) -> dict:
    """Return the attributes of an optimizer without those in which TensorFlow tracks the others for checkpoints."""
    return {name: value for name, value in vars(optimizer).items() if not name.startswith("_self_")}


def layout(variable):
    """Return the layout of a variable on the devices of `keras.distribution`, or None.

    A mask must be cut into parts as its weight is; Keras has a setter for layouts and no public getter.
    """
    return getattr(variable, "_layout", None)


# ---- compiled models -------------------------------------------------------------------------------------------------


def compile_arguments(model) -> dict:
    """Return the arguments that the user gave to `model.compile`, as a dict that may be changed.

    `model.get_compile_config()` serialises them, so that losses and metrics would be other objects.
    """
    return model._compile_config.config


def set_optimizer(model, optimizer) -> None:
    """Give a compiled Keras 3 model another optimizer and touch nothing else; its files hold this optimizer.

    In public only `compile` does so. It replaces loss and metrics too, and a subclass may have one of its own, with
    other arguments. The compiled training step has to go: it holds the optimizer before.
    """
    model.optimizer = optimizer
    model.train_function = None
    compile_arguments(model)["optimizer"] = optimizer


def after_train_end(callback, function) -> None:
    """Call `function()` after the `on_train_end` of every callback of this `fit`, on Keras 3 and tf_keras.

    No callback has a place after all others. But Keras appends its own History, which is public as `model.history`, to
    those of the user. If this `fit` has none, `function` is called at once.

    Args:
        callback: The callback that asks, in its own `on_train_end`.
        function: A function without arguments.
    """
    history = getattr(callback.model, "history", None)
    if getattr(history, "params", None) is not callback.params:
        function()
        return
    on_train_end = history.on_train_end

    def last(logs=None):
        vars(history).pop("on_train_end", None)
        on_train_end(logs)
        function()

    history.on_train_end = last


def compiled_loss(model):
    """Return the loss of `model.compile` as a function of (y, y_pred, sample_weight), or None.

    Public `model.compute_loss` adds the regularisation.
    """
    return getattr(model, "_compile_loss", None)


# ---- layers ----------------------------------------------------------------------------------------------------------


def has_random_generator(layer) -> bool:
    """Return whether a layer of Keras 3 or tf_keras holds a generator of random numbers itself.

    Dropout, noise and augmentation have no class in common, and neither Keras lists generators in public.
    """
    generators = ("SeedGenerator", "RandomGenerator")
    return any(type(value).__name__ in generators for value in vars(layer).values())


def steps_per_execution(model) -> int:
    """Return how many steps one call of the compiled training function makes.

    Keras 3 has a public attribute; tf_keras keeps a private variable.
    """
    steps = getattr(model, "_steps_per_execution", None)
    return int(model.steps_per_execution if steps is None or isinstance(steps, int) else steps.numpy())


def frozen_statistics(layer) -> list:
    """Return the replacements with which a tf_keras BatchNormalization in training leaves its moving statistics alone.

    Each is `(object, name of a method, what stands in its place)`. In public it either updates them or normalises by
    them.
    """

    def unchanged(variable, *_, **__):
        return variable

    return [(layer, name, unchanged) for name in ("_assign_moving_average", "_assign_new_value")]


@contextlib.contextmanager
def replaced(attributes):
    """Replace attributes of objects inside of a `with`.

    They are written to `__dict__`: Keras's layers track what is set in public, and would lose variables.

    Args:
        attributes: List of `(object, name of the attribute, value inside of the with)`.

    Yields:
        Nothing.
    """
    before = [(vars(item), name, vars(item).get(name)) for item, name, _ in attributes]
    for item, name, value in attributes:
        vars(item)[name] = value
    try:
        yield
    finally:
        for items, name, value in before:
            del items[name]
            if value is not None:
                items[name] = value


def own_trainable_variables(layer) -> list:
    """Return the trainable variables that a layer of Keras 3 or tf_keras has itself, frozen or not.

    Public `layer.trainable_variables` adds those of the layers inside, and is empty for a frozen layer.
    """
    return layer._trainable_variables if hasattr(layer, "_trainable_variables") else layer._trainable_weights


def trained_weights(model) -> list:
    """Return the weights of a Keras 3 model that are trained unless they are frozen, in the order of `model.weights`.

    Public `model.trainable_variables` leaves out those of frozen layers, and `model.weights` adds moving statistics.
    """
    trained = {id(v) for layer in all_layers(model) for v in own_trainable_variables(layer)}
    return [v for v in model.weights if id(v) in trained]


def inner_layers(layer) -> list:
    """Return the layers directly inside a layer of Keras 3 or tf_keras, which have no public list."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


@functools.cache
def functional_class(module) -> type:
    """Return the class of the models that `Model(inputs, outputs)` makes, which has no public name.

    Args:
        module: keras or tf_keras.

    Returns:
        The class.
    """
    inputs = module.Input((1,), name="inputs")  # without names they would change those of the user's next models
    return type(module.Model(inputs, module.layers.Flatten(name="layer")(inputs), name="model"))


def is_functional(model) -> bool:
    """Return whether a model of Keras 3 or tf_keras is Functional, as `Model(inputs, outputs)` makes it.

    The class of `Model(inputs, outputs)` has no public name; tf_keras marks such models in private.
    """
    return hasattr(model, "operations") or getattr(model, "_is_graph_network", False)


# ---- graphs of Keras 3 models ----------------------------------------------------------------------------------------


def graph(model):
    """Return the graph of a Functional or built Sequential model; None for anything else.

    A Sequential model keeps a Functional one inside, and neither has a public name for the nodes of its graph.
    """
    inner = getattr(model, "_functional", None) or model
    return inner if hasattr(inner, "_nodes_by_depth") else None


def nodes(graph) -> list:
    """Return all calls of layers and operations in a graph, each after the calls whose outputs it needs.

    `model.layers` and `model.operations` list what is called, not how often and on what.
    """
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def operation_of(tensor):
    """Return the layer or operation that made a `KerasTensor` of Keras 3 or tf_keras.

    The classes of operations such as `x + y` have no public names, so they are known by their results.
    """
    return tensor._keras_history[0]


def mask_of(tensor):
    """Return the Keras mask, such as that of `Embedding(mask_zero=True)`, which a `KerasTensor` of Keras 3 carries.

    Layers pass it on under a private name; None if there is none.
    """
    return getattr(tensor, "_keras_mask", None)


# ---- tf_keras --------------------------------------------------------------------------------------------------------


def uncast_variable(weight):
    """Return the variable inside of one that reads in a layer's compute dtype; any other variable as it is."""
    return getattr(weight, "_variable", weight)


def set_constraint(variable, constraint) -> None:
    """Give an existing variable of TensorFlow a constraint, on all of its replicas.

    In public a variable gets its constraint only when it is created.
    """
    for copy in getattr(variable, "values", [variable]):
        copy._constraint = constraint


def build_optimizer(optimizer, variables) -> None:
    """Create the slots of an optimizer of Keras 3 or tf_keras, new or legacy, if there are none yet.

    The legacy ones have no public method for it, and the new ones of tf_keras no public flag.
    """
    if hasattr(optimizer, "get_slot_names"):
        optimizer._create_all_weights(variables)
    elif not getattr(optimizer, "built", getattr(optimizer, "_built", False)):
        optimizer.build(variables)


def tf_keras_variable_index(optimizer, variable) -> int | None:
    """Return the position of a variable among those that an optimizer of tf_keras trains; None if it does not."""
    return optimizer._index_dict.get(optimizer._var_key(variable))


def tracked(model, name: str):
    """Return what `track` has added to a tf_keras model under this name, or None."""
    return model._lookup_dependency(name)


def track(model, name: str, item) -> None:
    """Let checkpoints of a tf_keras model hold `item`; as a public attribute it would join the model's weights."""
    model._track_trackable(item, name, overwrite=True)


# ---- replicas --------------------------------------------------------------------------------------------------------


def creation_strategy(owner):
    """Return the `tf.distribute` strategy under which a model or an optimizer was created, or None.

    Models have a public `distribute_strategy`; Keras 3 optimizers keep the strategy under a private name.
    """
    return getattr(owner, "distribute_strategy", None) or getattr(owner, "_distribution_strategy", None)


# ---- SavedModels -----------------------------------------------------------------------------------------------------


def trackable_object():
    """Return an empty object of TensorFlow whose attributes `tf.saved_model.save` writes.

    The public `tf.Module` has a read-only `variables`, a name that SavedModels use for the list of their variables.
    """
    import tensorflow as tf

    return tf.__internal__.tracking.AutoTrackable()


def objects_in_checkpoint(reader) -> list:
    """Return TensorFlow's description of the objects in a checkpoint: for each its children, and the keys of its state.

    Args:
        reader: What `tf.train.load_checkpoint` returns.
    """
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    content = reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    return list(trackable_object_graph_pb2.TrackableObjectGraph.FromString(content).nodes)


def leave_out_of_checkpoints(variable) -> None:
    """Make `tf.saved_model.save` write a variable of TensorFlow without its value.

    It has no public way to write a variable whose value comes from elsewhere when the SavedModel is loaded. It saves
    the variable itself for Python, and the copy that it makes of it in a graph for sessions.
    """
    export = variable._export_to_saved_model_graph

    def export_without_value(object_map, **options):
        tensors = export(object_map=object_map, **options)
        object_map[variable]._serialize_to_tensors = dict
        return tensors

    variable._serialize_to_tensors = dict
    variable._export_to_saved_model_graph = export_without_value


def learning_rate_of(optimizer):
    """Return the learning rate that an optimizer of Keras 3 or tf_keras was given: a variable, or a schedule.

    Public `optimizer.learning_rate` is the number at the present step.
    """
    return optimizer._learning_rate


def set_tf_keras_learning_rate(optimizer, learning_rate) -> None:
    """Give an optimizer of tf_keras its learning rate in its constructor, as its own optimizers do."""
    optimizer._learning_rate = optimizer._build_learning_rate(learning_rate)


def serialized_tf_keras_learning_rate(optimizer):
    """Return the learning rate of an optimizer of tf_keras as its config holds it; there is no public way."""
    return optimizer._serialize_hyperparameter(optimizer._learning_rate)


def step_gradient(optimizer, variable, gradient):
    """Return the gradient that a Keras 3 optimizer's next step is made with, before it clips it.

        (gradient / loss scale + gradients accumulated until now) / gradient_accumulation_steps

    Call it before `apply`, which empties the accumulators; they have no public name.
    """
    if optimizer.loss_scale_factor is not None:
        gradient = gradient / optimizer.loss_scale_factor
    if not optimizer.gradient_accumulation_steps:
        return gradient
    accumulated = optimizer._accumulated_gradients[variable_index(optimizer, variable)]
    return (gradient + accumulated) / optimizer.gradient_accumulation_steps


# ---- learning rates of Keras 3 ---------------------------------------------------------------------------------------


def num_batches(optimizer):
    """Return the variable that counts the batches of a Keras 3 optimizer; its learning rate is a function of it.

    With gradient accumulation public `optimizer.iterations` counts fewer: the updates.
    """
    return optimizer._iterations


# ---- TensorFlow ------------------------------------------------------------------------------------------------------


def is_in_xla_context() -> bool:
    """Return whether the graph that is traced now is compiled by XLA. TensorFlow has no public name for it."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def xla_sums(tensors):
    """Return the sums along the last axis of several int32 tensors of one shape, in one pass.

    XLA knows it, and TensorFlow has no public name for it.
    """
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops

    zeros = [tf.constant(0) for _ in tensors]
    return gen_xla_ops.xla_variadic_reduce_v2(tensors, zeros, [len(tensors[0].shape) - 1], _sum_of_pairs(len(tensors)))


@functools.cache
def _sum_of_pairs(number):
    """Return the traced function `(a1, ..., b1, ...) -> (a1 + b1, ...)` of `number` pairs of int32 scalars."""
    import tensorflow as tf

    def sums(*values):
        return [a + b for a, b in zip(values[:number], values[number:], strict=True)]

    with tf.init_scope():
        return tf.function(sums, autograph=False).get_concrete_function(*[tf.TensorSpec((), tf.int32)] * 2 * number)


def op_determinism_is_enabled() -> bool:
    """Return whether `tf.config.experimental.enable_op_determinism` was called; there is no public question."""
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()


def newest_readable_xla_module() -> int:
    """Return the newest version of the modules of JAX that the installed TensorFlow reads from a SavedModel.

    JAX writes them for TensorFlow (`XlaCallModule`) and asks the same private function before it refuses.
    """
    from tensorflow.compiler.tf2xla.python import xla

    return xla.call_module_maximum_supported_version()
