"""A compiled model goes on training when it is smaller."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from structured.small_models import images, residual

import tfsparse
from tfsparse import shrink, testing

KEEP = {"stem": [0, 1, 3], "inner": [1, 4]}


def trained(optimizer="adam", **options):
    net = residual()
    net.compile(optimizer, "mse", metrics=["mae"], **options)
    net.fit(images(net, 8), np.ones((8, 2)), epochs=2, batch_size=4, verbose=0)
    return net


def optimizers():
    return [
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.optimizers.AdamW(0.01, amsgrad=True, use_ema=True),
        keras.optimizers.RMSprop(0.01, centered=True),
        keras.optimizers.Ftrl(0.01),
        keras.optimizers.Nadam(keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)),
        tfsparse.GSM(0.01, compression=1.0),
    ]


@pytest.mark.parametrize("optimizer", optimizers(), ids=lambda o: o.name)
def test_slots_are_cut_as_the_weights_are(optimizer):
    net = trained(optimizer)
    small = shrink(net, KEEP)
    assert type(small.optimizer) is type(net.optimizer)
    assert int(small.optimizer.iterations.numpy()) == 4
    assert len(small.optimizer.variables) == len(net.optimizer.variables)
    kernel = [v.path for v in net.trainable_variables].index("outer/kernel")
    for name, slots in vars(net.optimizer).items():
        if isinstance(slots, list) and len(slots) == len(net.trainable_variables) and slots[kernel] is not None:
            cut = np.asarray(ops.convert_to_numpy(slots[kernel]))[:, :, [1, 4]][..., [0, 1, 3]]
            np.testing.assert_array_equal(ops.convert_to_numpy(vars(small.optimizer)[name][kernel]), cut)


def test_a_step_of_the_smaller_model_is_the_step_of_the_masked_one():
    """Without BatchNormalization in training mode: dense layers, momentum, channels that are zero in all variables."""
    net = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="relu", name="a"), layers.Dense(2)])
    net.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.ones((8, 2))
    net.fit(x, y, verbose=0, shuffle=False)
    keep = [0, 2, 5]
    small = shrink(net, {"a": keep})
    tfsparse.mask_channels(net, {"a": keep})
    reader = net.layers[1].kernel
    reader.assign(reader.numpy() * np.isin(np.arange(6), keep)[:, None])  # nothing flows back to what is masked
    for velocity, variable in zip(net.optimizer.momentums, net.trainable_variables, strict=True):
        velocity.assign(velocity.numpy() * (variable.numpy() != 0))
    for m in (net, small):
        m.fit(x, y, verbose=0, shuffle=False)
    for mine, theirs in ((small.layers[0].kernel, net.layers[0].kernel), (small.layers[0].bias, net.layers[0].bias)):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy()[..., keep], rtol=1e-5)


def test_compiled_alike():
    net = trained("adam", steps_per_execution=2, jit_compile=False, run_eagerly=False, loss_weights=[0.5])
    small = shrink(net, KEEP)
    assert (small.loss, small.steps_per_execution, small.jit_compile) == ("mse", 2, False)
    assert small._compile_config.config["loss_weights"] == [0.5]
    results = small.evaluate(images(net, 8), np.ones((8, 2)), verbose=0, return_dict=True)
    assert set(results) == {"loss", "mae"}


def test_metrics_are_not_shared():
    metric = keras.metrics.MeanAbsoluteError(name="mae")
    net = residual()
    net.compile("sgd", "mse", metrics=[metric])
    small = shrink(net, KEEP)
    small.evaluate(images(net, 8), np.ones((8, 2)), verbose=0)
    assert float(metric.result()) == 0.0


def test_the_inner_optimizer_of_a_sparse_one_goes_on():
    net = residual()
    net.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    net.fit(images(net, 8), np.ones((8, 2)), epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.5)])
    small = shrink(net, KEEP)
    assert type(small.optimizer) is keras.optimizers.SGD
    assert int(small.optimizer.iterations.numpy()) == 2


def test_loss_scale_stays_outside_with_its_scale():
    net = residual()
    net.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=8.0), "mse")
    net.fit(images(net, 8), np.ones((8, 2)), verbose=0)
    small = shrink(net, KEEP)
    assert isinstance(small.optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(small.optimizer.dynamic_scale.numpy()) == 8.0
    small.fit(images(net, 8), np.ones((8, 2)), verbose=0)


def test_a_bias_that_is_new_has_empty_slots():
    net = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, use_bias=False, name="reader")]
    )
    net.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    net.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    net.layers[0].set_weights([net.layers[0].kernel.numpy() * [1, 0, 1], np.array([0.0, 2.0, 0.0])])
    small = shrink(net)
    assert [tuple(v.shape) for v in small.trainable_variables] == [(4, 2), (2,), (2, 2), (2,)]
    assert not small.optimizer.momentums[3].numpy().any()
    np.testing.assert_array_equal(small.optimizer.momentums[2].numpy(), net.optimizer.momentums[2].numpy()[[0, 2]])


def test_two_replicas_get_a_smaller_model_too():
    with testing.two_cpu_strategy().scope():
        net = trained(keras.optimizers.SGD(0.01, momentum=0.9), jit_compile=False)
    small = shrink(net, KEEP)
    assert small.distribute_strategy.num_replicas_in_sync == 2
    small.fit(images(net, 8), np.ones((8, 2)), verbose=0)
    assert np.isfinite(small.evaluate(images(net, 8), np.ones((8, 2)), verbose=0)[0])
