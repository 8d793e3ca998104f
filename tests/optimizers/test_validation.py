"""What is refused in a step, before anything is changed."""

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import SparseOptimizer, testing


def kernel():
    return keras.Variable(np.arange(1.0, 7.0, dtype="float32").reshape(2, 3), name="kernel")


OPTIMIZERS = {
    "SparseOptimizer": lambda: SparseOptimizer("sgd", "constant", 0.5, total_steps=9),
    "Feather": lambda: SparseOptimizer("sgd", "constant", 0.5, tfsparse.Feather(), total_steps=9),
    "GSM": lambda: tfsparse.GSM(compression=2),
    "GSM inside": lambda: SparseOptimizer(tfsparse.GSM(compression=2), "constant", 0.5, total_steps=9),
}


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def optimizer(request):
    return request.param()


def test_unknown_variables_are_refused_with_the_sentence_of_keras(optimizer):
    known, unknown = kernel(), kernel()
    optimizer.apply([ops.ones((2, 3))], [known])
    before = [ops.convert_to_numpy(v) for v in (known, *optimizer.variables)]
    with pytest.raises(ValueError, match=r"(?s)Unknown variable: .*recreate a new optimizer"):
        optimizer.apply([ops.ones((2, 3)), ops.ones((2, 3))], [known, unknown])
    for a, b in zip(before, (known, *optimizer.variables), strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


def test_one_gradient_per_variable(optimizer):
    with pytest.raises(ValueError, match="got 1 gradients for 0 variables"):
        optimizer.apply([ops.ones((2, 3))])
    assert not optimizer.built
    variables = [kernel(), kernel()]
    with pytest.raises(ValueError, match="got 1 gradients for 2 variables"):
        optimizer.apply([ops.ones((2, 3))], variables)
    optimizer.build(variables)
    with pytest.raises(ValueError, match=r"got 3 gradients for 2 variables.*apply\(gradients, model"):
        optimizer.apply([ops.ones((2, 3))] * 3)


def test_no_gradients_are_no_step(optimizer):
    assert optimizer.apply([]) is None and not optimizer.built
    optimizer.build([kernel()])
    optimizer.apply([], [])
    assert int(ops.convert_to_numpy(optimizer.iterations)) == 0


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="a step on JAX knows values, not variables")
def test_a_layer_that_was_frozen_is_not_trained_without_compiling_again():
    x, y = testing.small_data()
    model = testing.small_model()
    model.layers[-1].trainable = False
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[tfsparse.Prune("constant", 0.5)])
    model.layers[-1].trainable = True
    with pytest.raises(ValueError, match="Unknown variable"):
        model.fit(x, y, batch_size=16, verbose=0)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="a step on JAX knows values, not variables")
def test_the_optimizer_of_another_model_is_refused():
    x, y = testing.small_data()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model, clone = testing.small_model(), testing.small_model()
    model.compile(SparseOptimizer("adam", "constant", 0.5, total_steps=4), loss)
    model.fit(x, y, batch_size=16, verbose=0)
    clone.compile(model.optimizer, loss)
    with pytest.raises(ValueError, match="Unknown variable"):
        clone.fit(x, y, batch_size=16, verbose=0)
