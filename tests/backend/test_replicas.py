import keras
import numpy as np
import pytest
from keras import ops

from tfsparse.backend import replicas


def test_the_digest_depends_on_every_bit():
    masks = [np.ones((7, 3)), np.zeros(5)]
    flipped = [m.copy() for m in masks]
    flipped[1][4] = 1
    assert replicas.digest(masks) == replicas.digest([m.astype("float16") for m in masks])
    assert replicas.digest(masks) != replicas.digest(flipped)


def test_one_replica_reduces_nothing():
    gradients = [ops.ones((2, 2))]
    assert replicas.global_gradients(gradients)[0] is gradients[0]
    np.testing.assert_array_equal(ops.convert_to_numpy(replicas.divide_by_replicas(gradients[0])), np.ones((2, 2)))


def test_update_and_replica_values():
    variable, factor = keras.Variable(np.ones(3)), keras.Variable(np.arange(3.0))
    replicas.once(lambda: replicas.update(variable, lambda v, f: v * f, factor))
    np.testing.assert_array_equal(replicas.replica_values(variable)[0], [0, 1, 2])
    replicas.once(lambda: replicas.update(variable, lambda v, f, c: v * f + c, factor, ops.ones(3, variable.dtype)))
    np.testing.assert_array_equal(replicas.replica_values(variable)[0], [1, 2, 5])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_two_replicas_get_the_global_gradient():
    import tensorflow as tf

    from tfsparse.testing import two_cpu_strategy

    strategy = two_cpu_strategy()

    def step():
        own = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group + 1, tf.float32)
        total = replicas.global_gradients([own])[0]
        share = replicas.divide_by_replicas(total)
        return total, share, replicas.sum_of_shares(share)

    total, share, again = strategy.run(tf.function(step))
    assert [float(v) for v in strategy.experimental_local_results(total)] == [3, 3]
    assert [float(v) for v in strategy.experimental_local_results(share)] == [1.5, 1.5]
    assert [float(v) for v in strategy.experimental_local_results(again)] == [3, 3]
