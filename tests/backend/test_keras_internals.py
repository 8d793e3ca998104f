"""What a new release of Keras, tf_keras or TensorFlow broke, in one sentence per private attribute."""

import keras
import numpy as np
import pytest

from tfsparse.backend import keras_internals


def built_model():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="inner")], name="nested")
    model = keras.Sequential([keras.Input((3,)), inner, keras.layers.Dense(1, name="outer")])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    return model


def test_all_layers():
    model = built_model()
    names = {layer.name for layer in keras_internals.all_layers(model)}
    assert {model.name, "nested", "inner", "outer"} <= names, "layer._flatten_layers no longer lists nested layers"


def test_trained_variables():
    model = built_model()
    found = keras_internals.trained_variables(model.optimizer)
    assert [id(v) for v in found] == [id(v) for v in model.trainable_variables], (
        "optimizer._trainable_variables no longer lists the trained variables in their order"
    )


def test_variable_index():
    model = built_model()
    found = [keras_internals.variable_index(model.optimizer, v) for v in model.trainable_variables]
    assert found == [0, 1, 2, 3], "optimizers no longer have a dict of positions by optimizer._var_key"
    assert keras_internals.variable_index(model.optimizer, keras.Variable(0.0)) is None, "a stranger has a position"


def test_check_known():
    model = built_model()
    keras_internals.check_known(model.optimizer, model.trainable_variables)
    with pytest.raises(ValueError, match="Unknown variable"):
        keras_internals.check_known(model.optimizer, [keras.Variable(0.0)])


def test_set_trained_variables():
    variables, optimizer = built_model().trainable_variables, keras.optimizers.SGD(0.1)
    keras_internals.set_trained_variables(optimizer, variables)
    assert optimizer.built and keras_internals.variable_index(optimizer, variables[2]) == 2
    assert [id(v) for v in keras_internals.trained_variables(optimizer)] == [id(v) for v in variables]
    assert len(optimizer.variables) == 2, "variables that are only trained have become the optimizer's own"
    optimizer.apply([v.value for v in variables])  # build has set nothing else that a step needs


def test_averages():
    @keras_internals.shows_inner_averages
    class Outer(keras.optimizers.Optimizer):
        inner_optimizer = keras.optimizers.SGD(0.1, use_ema=True)

    model, outer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)]), Outer(0.1)
    model.compile(keras.optimizers.LossScaleOptimizer(outer), "mse")
    outer.inner_optimizer.build(model.trainable_variables)
    outer.build(model.trainable_variables)
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    assert not np.any(model.get_weights()[0]), "SwapEMAWeights finds the averages under another name"
    kept = keras_internals.attributes(outer.inner_optimizer)
    assert [name for name in kept if keras_internals.is_average((name,))], "optimizers keep averages under another name"


def test_place():
    model = built_model()
    kernel = model.trainable_variables[2]
    place, kept = keras_internals.place(model.optimizer, kernel), keras_internals.attributes(model.optimizer)
    assert len(kept["momentums"]) == place.num_variables and kept["momentums"][place.position].shape == kernel.shape, (
        "optimizers no longer keep slots in lists parallel to the trained variables"
    )
    assert keras_internals.place(model.optimizer, keras.Variable(0.0)) is None, "a stranger has a place"


def test_is_optimizer():
    import tf_keras

    for module in (keras, tf_keras):
        assert keras_internals.is_optimizer(module.optimizers.SGD()), f"{module.__name__} has other optimizers"
    assert keras_internals.is_optimizer(tf_keras.optimizers.legacy.SGD())
    assert not keras_internals.is_optimizer(keras.Variable(0.0)) and not keras_internals.is_optimizer([])


def test_layout():
    variable = keras.Variable(np.zeros(2, "float32"))
    assert keras_internals.layout(variable) is None, "a variable without a distribution has a layout now"


def test_compile_arguments():
    model = built_model()
    arguments = keras_internals.compile_arguments(model)
    assert arguments["loss"] == "mse" and arguments["metrics"] == ["mae"], (
        "model._compile_config no longer holds what the user passed to compile"
    )


def test_set_optimizer():
    model = built_model()
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    model.fit(x, y, verbose=0)
    model.train_on_batch(x, y)
    kept = model.loss, model.metrics
    optimizer = keras.optimizers.SGD(0.0)
    keras_internals.set_optimizer(model, optimizer)
    before = model.get_weights()
    model.train_on_batch(x, y)
    after = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), (
        "the compiled step is no longer model.train_function: it still uses the optimizer before"
    )
    assert (model.loss, model.metrics) == kept, "exchanging the optimizer touches loss or metrics"
    config = model.get_compile_config()["optimizer"]["config"]
    assert config["learning_rate"] == 0, "a saved file no longer holds the optimizer that was set"


def test_after_train_end():
    import tf_keras

    for module in (keras, tf_keras):
        calls = []
        early, late = (
            module.callbacks.Callback(),
            module.callbacks.LambdaCallback(on_train_end=lambda logs, calls=calls: calls.append("late")),
        )
        early.on_train_end = lambda logs, early=early, calls=calls: keras_internals.after_train_end(
            early, lambda: calls.append("after all")
        )
        model = module.Sequential([module.Input((3,)), module.layers.Dense(1)])
        model.compile("sgd", "mse")
        for _ in range(2):
            history = model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=[early, late])
            assert "on_train_end" not in vars(history), "History's own method is not called again"
        assert calls == ["late", "after all"] * 2, f"{module.__name__} no longer appends its History to the callbacks"
        alone = module.callbacks.CallbackList([early, late], model=model, verbose=0, epochs=1, steps=1)
        alone.on_train_begin()
        alone.on_train_end()
        assert calls[4:] == ["after all", "late"], "the History of an earlier fit was taken for that of this one"


def test_compiled_loss():
    model = built_model()
    loss = keras_internals.compiled_loss(model)
    assert loss is not None, "model._compile_loss no longer exists"
    assert float(loss(np.ones((1, 1)), np.zeros((1, 1)), None)) == 1, "model._compile_loss is not the compiled loss"


def test_has_random_generator():
    import tf_keras

    for layers in (keras.layers, tf_keras.layers):
        random = [layers.Dropout(0.5), layers.GaussianNoise(1.0), layers.RandomFlip(), layers.LSTMCell(2, dropout=0.5)]
        for layer in random:
            layer.build((None, 4, 4))
            found = keras_internals.has_random_generator(layer)
            assert found, f"a {layer.__module__} layer no longer holds its generator of random numbers as an attribute"
        assert not keras_internals.has_random_generator(layers.Dense(2)), "every layer now holds a generator"


def test_steps_per_execution():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse", steps_per_execution=3)
    assert keras_internals.steps_per_execution(model) == 3, "models no longer say how many steps one call makes"


def test_frozen_statistics():
    import tf_keras

    inputs = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")
    for fused in (True, False):
        layer = tf_keras.layers.BatchNormalization(fused=fused)
        layer.build(inputs.shape)
        before = layer.get_weights()
        vars(layer).update({name: value for _, name, value in keras_internals.frozen_statistics(layer)})
        layer(inputs, training=True)
        for old, new in zip(before, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(
                old, new, "tf_keras's BatchNormalization writes its moving statistics through another private method"
            )


def test_replaced():
    import tf_keras

    for name, layer in (("_kernel", keras.layers.Dense(2)), ("kernel", tf_keras.layers.Dense(2))):
        layer.build((None, 3))
        kernel = layer.kernel
        with keras_internals.replaced([(layer, name, 3), (layer, "call", abs)]):
            assert layer.kernel == 3, f"a {layer.__module__} layer no longer keeps its kernel in its __dict__"
            assert layer.call is abs, f"a {layer.__module__} layer no longer finds its call in its __dict__ first"
        assert layer.kernel is kernel and "call" not in vars(layer) and len(layer.trainable_variables) == 2, (
            f"a {layer.__module__} layer lost a variable that was replaced in its __dict__"
        )


def test_own_trainable_variables():
    import tf_keras

    for layers in (keras.layers, tf_keras.layers):
        layer = layers.TimeDistributed(layers.Dense(2))
        layer.build((None, 4, 3))
        layer.trainable = False
        found = [len(keras_internals.own_trainable_variables(each)) for each in (layer, layer.layer)]
        assert found == [0, 2], f"a {layer.__module__} layer no longer lists its own trainable variables"


def test_trained_weights():
    model = built_model()
    trained = keras_internals.trained_weights(model)
    assert [id(v) for v in trained] == [id(v) for v in model.trainable_variables], (
        "model.weights is no longer in the order of model.trainable_variables"
    )
    model.trainable = False
    assert [id(v) for v in keras_internals.trained_weights(model)] == [id(v) for v in trained], (
        "a frozen layer no longer keeps its weights in _trainable_variables"
    )


def test_is_functional():
    import tf_keras

    for module in (keras, tf_keras):
        inputs = module.Input((3,))
        subclassed = type("Subclassed", (module.Model,), {"call": lambda self, x: x})()
        graph = module.Model(inputs, inputs)
        assert keras_internals.is_functional(graph), f"{module.__name__} marks Functional models otherwise"
        assert not keras_internals.is_functional(subclassed), f"{module.__name__} calls every model a graph of layers"


def shared_layer_model():
    inputs, shared = keras.Input((3,), name="inputs"), keras.layers.Dense(3, name="shared")
    return keras.Model(inputs, shared(shared(inputs)) + 1)


def test_graph():
    model = shared_layer_model()
    assert keras_internals.graph(model) is model, "Functional models no longer keep their nodes in _nodes_by_depth"
    sequential = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert keras_internals.graph(sequential) is not None, "Sequential no longer keeps a Functional model in _functional"
    assert keras_internals.graph(keras.Sequential([keras.layers.Dense(2)])) is None, (
        "a Sequential model that is not built has a graph now"
    )


def test_nodes():
    names = [node.operation.name for node in keras_internals.nodes(shared_layer_model())]
    assert names[:2] == ["shared", "shared"] and len(names) == 3, (
        "_nodes_by_depth no longer lists every call once, with the inputs at the greatest depth"
    )


def test_operation_of():
    operation = keras_internals.operation_of(shared_layer_model().output)
    assert type(operation).__name__ == "Add", "tensor._keras_history.operation is no longer what made the tensor"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strategies are TensorFlow's")
def test_creation_strategy():
    import tensorflow as tf

    strategy = tf.distribute.OneDeviceStrategy("cpu:0")
    with strategy.scope():
        owners = [keras.Sequential([keras.layers.Dense(1)]), keras.optimizers.SGD()]
    assert [keras_internals.creation_strategy(owner) for owner in owners] == [strategy] * 2, (
        "models or optimizers no longer keep the strategy under which they were created"
    )


def test_inner_layers():
    import tf_keras

    for layers in (keras.layers, tf_keras.layers):
        inner = layers.Dense(2)
        outer = layers.TimeDistributed(layers.TimeDistributed(inner))
        found = keras_internals.inner_layers(outer.layer), keras_internals.inner_layers(outer)
        assert found == ([inner], [outer.layer]), f"a {layers.__name__} layer lists other layers as those inside it"


def test_functional_class():
    import tf_keras

    for module in (keras, tf_keras):
        inputs = module.Input((1,))
        subclass = type("Overridden", (module.Model,), {"call": lambda self, x: x})
        plain, other = module.Model(inputs, inputs), subclass(inputs, inputs)
        call = keras_internals.functional_class(module).call
        assert type(plain).call is call, f"{module.__name__} makes Functional models of another class"
        assert type(other).call is not call, f"{module.__name__} ignores a call that a subclass overrides"


def test_operation_and_mask_of_a_tensor():
    import tf_keras

    for module in (keras, tf_keras):
        inputs = module.Input((5,), name="tokens")
        embedding = module.layers.Embedding(3, 2, mask_zero=True)
        found = keras_internals.operation_of(embedding(inputs))
        assert found is embedding, f"tensors of {module.__name__} no longer know the layer that made them"
    inputs = keras.Input((5,))
    masked = keras.layers.Embedding(3, 2, mask_zero=True)(inputs)
    assert keras_internals.mask_of(inputs) is None
    assert keras_internals.mask_of(masked) is not None, "Keras 3 passes masks on under another name"


def test_trackable_object(tmp_path):
    import tensorflow as tf

    root = keras_internals.trackable_object()
    root.variables = [tf.Variable([1.0, 2.0])]
    tf.saved_model.save(root, str(tmp_path))
    (variable,) = tf.saved_model.load(str(tmp_path)).variables
    assert variable.numpy().tolist() == [1, 2], "SavedModels no longer keep what is set on a trackable object"


def test_leave_out_of_checkpoints(tmp_path):
    import tensorflow as tf

    root = keras_internals.trackable_object()
    root.variables = [tf.Variable(np.ones(1000, "float32")), tf.Variable([3.0])]
    keras_internals.leave_out_of_checkpoints(root.variables[0])
    tf.saved_model.save(root, str(tmp_path))
    left_out, kept = tf.saved_model.load(str(tmp_path)).variables
    assert kept.numpy() == 3 and left_out.shape == 1000 and not left_out.is_initialized(), (
        "a variable that is left out of the checkpoint is no longer loaded without a value"
    )


def test_learning_rate_of():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    found = keras_internals.learning_rate_of(keras.optimizers.SGD(schedule))
    assert found is schedule, "optimizer._learning_rate no longer holds the schedule that the optimizer was given"


def test_num_batches():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    variable = keras.Variable(np.zeros(1, "float32"))
    for _ in range(4):
        optimizer.apply([np.ones(1, "float32")], [variable])
    assert int(keras_internals.num_batches(optimizer)) == 4 and int(optimizer.iterations) == 2, (
        "optimizer._iterations no longer counts batches where public iterations counts updates"
    )


def test_step_gradient_is_the_one_that_keras_makes_the_step_with():
    """SGD with rate 1 moves a weight by its gradient."""
    w = keras.Variable(np.zeros(2, "float32"), name="w")
    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2, loss_scale_factor=4.0)
    optimizer.build([w])
    for gradient in ([4.0, 8.0], [8.0, 0.0]):
        gradient = keras.ops.convert_to_tensor(np.array(gradient, "float32"))
        found = keras.ops.convert_to_numpy(keras_internals.step_gradient(optimizer, w, gradient))
        optimizer.apply([gradient], [w])
    assert np.array_equal(found, [1.5, 1.0]), "Keras no longer accumulates gradients as we know it"
    assert np.array_equal(keras.ops.convert_to_numpy(w), -found), "Keras no longer accumulates gradients as we know it"


def test_the_version_of_jax_modules():
    version = keras_internals.newest_readable_xla_module()
    assert isinstance(version, int) and version >= 9, "TensorFlow no longer says which modules of JAX it reads"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow")
def test_op_determinism_is_enabled():
    from tensorflow.python.framework import config

    assert not keras_internals.op_determinism_is_enabled()
    try:
        config.enable_op_determinism()  # the public name, which conftest.py has taken away
        assert keras_internals.op_determinism_is_enabled(), "TensorFlow no longer says whether determinism is enabled"
    finally:
        config.disable_op_determinism()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a context of TensorFlow")
def test_xla_context_and_sums():
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def sums(x):
        assert keras_internals.is_in_xla_context(), "TensorFlow no longer tells a graph that XLA compiles it"
        return keras_internals.xla_sums([x, 2 * x])

    assert not keras_internals.is_in_xla_context()
    assert [int(s) for s in sums(tf.range(4))] == [6, 12], "the reduction of several tensors has changed"
