"""Weights of wrapped models that stay dense are named when the model is wrapped."""

import warnings

import pytest
import tf_keras
import tf_keras_models as models
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_policy

from tfsparse import tfmot


class Cell(tf_keras.layers.Layer):
    """A kernel, a weight that is like one, and a bias."""

    has_kernel = True

    def build(self, shape):
        if self.has_kernel:
            self.kernel = self.add_weight("kernel", (shape[-1], 8))
        self.w = self.add_weight("w", (shape[-1], 8))
        self.table = self.add_weight("relative_bias", (2, 8))

    def call(self, inputs):
        return inputs @ (self.w + self.kernel if self.has_kernel else self.w) + self.table[0]


class OwnCell(Cell):
    has_kernel = False


class Deciding(OwnCell):
    def get_prunable_weights(self):
        return []


class Pruned(OwnCell):
    def get_prunable_weights(self):
        return [self.w]


def model_of(*layers, inputs=8):
    return tf_keras.Sequential([tf_keras.Input((inputs,)), *layers, tf_keras.layers.Dense(4, name="out")])


def said_by(model, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tfmot.prune_low_magnitude(model, **options)
    return [str(warning.message) for warning in said if warning.category is UserWarning]


@pytest.mark.parametrize("layer", [Cell, OwnCell])
def test_weights_of_own_layers_are_named_with_the_method_that_includes_them(layer):
    (said,) = said_by(model_of(layer(name="cell")))
    assert said.startswith("cell/w (8, 8) stays dense: its name does not end in 'kernel'. ")
    assert f"Give {layer.__name__} a method get_prunable_weights" in said and "bias" not in said


@pytest.mark.parametrize("layer", [Deciding, Pruned])
def test_a_layer_with_the_method_has_decided(layer):
    assert said_by(model_of(layer())) == []


def test_a_policy_decides_for_all_layers():
    class Kernels(pruning_policy.PruningPolicy):
        def allow_pruning(self, layer):
            return isinstance(layer, tf_keras.layers.Dense)

        def ensure_model_supports_pruning(self, model):
            pass

    assert said_by(model_of(OwnCell()), pruning_policy=Kernels()) == []


def test_layers_of_keras_and_frozen_layers_are_not_named():
    inputs = tf_keras.Input((4,), dtype="int32")
    x = tf_keras.layers.Embedding(9, 8)(inputs)
    x = tf_keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = tf_keras.layers.PReLU()(tf_keras.layers.LayerNormalization(axis=(1, 2))(x))
    x = OwnCell(trainable=False)(tf_keras.layers.GRU(8)(x))
    assert said_by(tf_keras.Model(inputs, tf_keras.layers.Dense(2)(x))) == []


def test_a_kernel_with_fewer_inputs_than_a_group_is_named():
    (said,) = said_by(model_of(tf_keras.layers.Dense(8, name="first"), inputs=3), sparsity_m_by_n=(2, 4))
    assert said == "first/kernel (3, 8) stays dense: whole units of this shape come no nearer to the target."


@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
def test_gsm_says_what_blocks_cannot_reach():
    model = tfmot.prune_low_magnitude(model_of(inputs=16), block_size=(16, 1), scope="global")
    model.compile(tfmot.GSM(0.5, compression=10), "mse")
    with pytest.warns(UserWarning, match="all layers together: 0.75 instead of 0.9"):
        models.fit(model, tfmot.PruneGSM())
