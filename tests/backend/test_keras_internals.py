"""What a new release of Keras, tf_keras or TensorFlow broke, in one sentence per private attribute."""

import keras
import numpy as np

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
    assert found == [0, 1, 2, 3], "optimizer._get_variable_index no longer gives positions"


def test_slots():
    model = built_model()
    kernel = model.trainable_variables[2]
    found = keras_internals.slots(model.optimizer, 2, 4, kernel)
    assert [v.shape for v in found] == [kernel.shape] and found[0] is not kernel, (
        "optimizers no longer keep slots in lists parallel to the trained variables"
    )


def test_layout():
    variable = keras.Variable(np.zeros(2, "float32"))
    assert keras_internals.layout(variable) is None, "a variable without a distribution has a layout now"


def test_compile_arguments():
    model = built_model()
    arguments = keras_internals.compile_arguments(model)
    assert arguments["loss"] == "mse" and arguments["metrics"] == ["mae"], (
        "model._compile_config no longer holds what the user passed to compile"
    )


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
