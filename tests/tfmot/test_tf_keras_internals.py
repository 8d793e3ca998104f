"""What a new release of tf_keras or TensorFlow broke, in one sentence per private attribute."""

import tensorflow as tf
import tf_keras

from tfsparse.backend import keras_internals


def built_model(optimizer):
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    model.compile(optimizer, "mse")
    keras_internals.build_optimizer(model.optimizer, model.trainable_variables)
    return model


def test_place_of_new_and_legacy_optimizers():
    for name, optimizers in (("momentums", tf_keras.optimizers), ("_slots", tf_keras.optimizers.legacy)):
        model = built_model(optimizers.SGD(0.1, momentum=0.9))
        kernel = model.trainable_variables[0]
        place, kept = keras_internals.place(model.optimizer, kernel), keras_internals.attributes(model.optimizer)[name]
        slot = kept[place.position] if isinstance(kept, list) else kept[place.keys[0]]["momentum"]
        assert slot.shape == kernel.shape, f"{optimizers.__name__} no longer keeps slots as it did"


def test_tf_keras_variable_index():
    model = built_model("adam")
    found = [keras_internals.tf_keras_variable_index(model.optimizer, v) for v in model.trainable_variables]
    assert found == [0, 1], "optimizer._index_dict and _var_key no longer give positions"
    other = tf.Variable(0.0)
    assert keras_internals.tf_keras_variable_index(model.optimizer, other) is None, "a stranger has a position"


def test_set_constraint():
    model = built_model(tf_keras.optimizers.SGD(1.0))
    kernel = model.trainable_variables[0]
    keras_internals.set_constraint(kernel, lambda weight: tf.zeros_like(weight))
    model.fit(tf.ones((4, 3)), tf.ones((4, 2)), verbose=0)
    assert not kernel.numpy().any(), "variable._constraint is no longer what an optimizer applies after its step"


def test_uncast_variable():
    layer = tf_keras.layers.Dense(2, dtype="mixed_float16")
    layer.build((None, 3))
    assert keras_internals.uncast_variable(layer.kernel).dtype == tf.float32, "AutoCastVariable hides its variable now"


def test_tracked():
    model = built_model("sgd")
    state = tf.train.Checkpoint(step=tf.Variable(3))
    keras_internals.track(model, "own_state", state)
    assert keras_internals.tracked(model, "own_state") is state, "models no longer track what is added to them"
    assert len(model.weights) == 2, "what a model tracks in private has joined its weights"


def test_learning_rate():
    schedule = tf_keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    optimizer = tf_keras.optimizers.SGD()
    keras_internals.set_tf_keras_learning_rate(optimizer, schedule)
    assert keras_internals.learning_rate_of(optimizer) is schedule, "optimizer._learning_rate no longer is the schedule"
    config = keras_internals.serialized_tf_keras_learning_rate(optimizer)
    assert config["class_name"] == "ExponentialDecay", "optimizers no longer serialise their schedules"


def test_steps_per_execution():
    model = built_model("sgd")
    model.compile("sgd", "mse", steps_per_execution=3)
    assert keras_internals.steps_per_execution(model) == 3, "models no longer keep how many steps one call makes"
