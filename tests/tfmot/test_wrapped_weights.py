"""Slots of the optimizers of tf_keras, and counts."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl
from tf_keras_models import stock

from tfsparse import tfmot
from tfsparse.tfmot import prune

VALUE = 0.25


@pytest.mark.parametrize("optimizers", [tf_keras.optimizers, tf_keras.optimizers.legacy], ids=["new", "legacy"])
@pytest.mark.parametrize("name", ["Adagrad", "Ftrl"])
def test_slots_of_pruned_weights_return_to_their_initial_value(optimizers, name):
    model = tfmot.prune_low_magnitude(models.small())
    model.compile(getattr(optimizers, name)(0.05, initial_accumulator_value=VALUE), "sparse_categorical_crossentropy")
    models.fit(model, tfmot.Prune("dsd", sparsity=0.5, total_steps=32))
    (group, *_), initial = prune.wrapped_weights(model), []
    group.empty_slots()
    pruned = group.masks[0].numpy() == 0
    assert pruned.any()
    for slot in group.slots(0):
        values = slot.variable.numpy()
        assert len(np.unique(values[pruned])) == 1 and len(np.unique(values[~pruned])) > 1
        initial.append(values[pruned][0])
    assert VALUE in initial and np.isfinite(group.weights[0].numpy()).all()


def dense_model(*widths, **options):
    tf_keras.utils.set_random_seed(0)
    layers = [tf_keras.layers.Dense(width, name=f"dense_{width}") for width in widths]
    model = tf_keras.Sequential([tf_keras.layers.Input((17,)), *layers])
    return models.compiled(tfmot.prune_low_magnitude(model, **options))


@pytest.mark.parametrize(("block", "zeros"), [((4, 1), 765), ((8, 8), 768)])
def test_blocks_that_do_not_divide_a_kernel_reach_the_target(block, zeros):
    model = dense_model(50, block_size=block)
    models.fit(model, tfmot.Prune("one_cycle", sparsity=0.9))
    assert np.sum(models.masks(model)[0] == 0) == zeros  # of 850


def test_what_blocks_cannot_reach_is_said_before_training():
    with pytest.warns(UserWarning, match=r"dense_50 \(17, 50\): 0.3976 instead of 0.5"):
        model = dense_model(50, block_size=(16, 16), scope="layer")
        models.fit(model, tfmot.Prune("one_cycle", sparsity=0.5), epochs=1)


def test_what_is_reached_by_all_layers_together_is_said_of_a_global_scope():
    with pytest.warns(UserWarning, match=r"than this: all layers together: 0.4\d+ instead of 0.5. "):
        models.fit(dense_model(50, sparsity_m_by_n=(2, 4), scope="global"), tfmot.Prune("one_cycle", sparsity=0.5))


def test_a_global_target_counts_over_the_whole():
    model = dense_model(50, 5)
    models.fit(model, tfmot.Prune("one_cycle", sparsity=0.777))
    assert sum(np.sum(m == 0) for m in models.masks(model)) == round(0.777 * (850 + 250))


@pytest.mark.parametrize("block", [(1, 1), (1, 5), (4, 1), (5, 3)])
def test_before_the_end_the_masks_are_those_of_tfmot(block):
    schedule = stock.PolynomialDecay(0.0, 0.9, 0, 100, frequency=1)
    weight = np.random.default_rng(0).normal(size=(20, 45)).astype("float32")
    wrapper = tfmot.PruneLowMagnitude(tf_keras.layers.Dense(45), schedule, block_size=block)
    wrapper.build((None, 20))
    theirs = [tf.Variable(weight), tf.Variable(np.ones_like(weight)), tf.Variable(0.0)]
    for step in range(1, 40, 2):
        wrapper.layer.kernel.assign(weight)
        wrapper.pruning_vars[0][1].assign(np.ones_like(weight))
        wrapper.pruning_step.assign(step - 1)
        wrapper.pruning_obj.conditional_mask_update()
        pruning_impl.Pruning(lambda step=step: step, [theirs], schedule, list(block), "AVG").conditional_mask_update()
        np.testing.assert_array_equal(wrapper.pruning_vars[0][1], theirs[1])


def test_at_the_end_an_exact_half_of_the_kernel_is_rounded_and_not_of_what_is_kept():
    model = tf_keras.Sequential([tf_keras.layers.Input((3,)), tf_keras.layers.Dense(5)])
    model = models.compiled(tfmot.prune_low_magnitude(model, stock.ConstantSparsity(0.5, 0)))
    models.fit(model, epochs=1)
    assert np.sum(models.masks(model)[0] == 0) == round(7.5) == 8  # TFMOT keeps round(7.5), and prunes 7


def bounded_model():
    """Bounds of all weights, and others of one layer."""
    tf_keras.utils.set_random_seed(0)
    head = tfmot.prune_low_magnitude(tf_keras.layers.Dense(5, name="head"), scope="global", max_sparsity=0.3)
    others = [tf_keras.layers.Dense(50), tf_keras.layers.Dense(9)]
    model = tf_keras.Sequential([tf_keras.layers.Input((17,)), *others, head])
    return models.compiled(tfmot.prune_low_magnitude(model, min_sparsity=0.7, max_sparsity=0.75))


def test_bounds_of_single_weights_hold_at_every_step_and_in_a_loaded_model(tmp_path):
    model = bounded_model()
    look = models.EveryStep(lambda model: [float(np.mean(mask == 0)) for mask in models.masks(model)])
    prune = tfmot.Prune("one_cycle", sparsity=0.7, total_steps=3 * models.STEPS)
    models.fit(model, prune, look, epochs=2)
    model.save(tmp_path / "model.keras")
    with tfmot.scope():
        model = tf_keras.models.load_model(tmp_path / "model.keras")
    models.fit(model, prune, look, epochs=1)
    wide, narrow, head = np.transpose(look.seen)
    assert max(wide) <= 0.75 and max(narrow) <= 0.75 and max(head) <= 0.3
    assert wide[-1] >= 0.7 and narrow[-1] >= 0.7
    assert sum(np.sum(mask == 0) for mask in models.masks(model)) == round(0.7 * (850 + 450 + 45))


def test_bounds_that_cannot_hold_are_refused_before_the_first_step():
    model = bounded_model()
    with pytest.raises(ValueError, match=r"sparsity=0.9 of all weights together is not within the bounds"):
        models.fit(model, tfmot.Prune("one_cycle", sparsity=0.9))
    with pytest.raises(ValueError, match=r"sparsity=0.5 of all weights together is not within the bounds"):
        bounded_model()(models.data((17,))[0], training=True)  # without Prune: a constant 0.5
    with pytest.raises(ValueError, match=r"OfTheUser\(.*does not say its target, so min_sparsity and max_sparsity"):
        prune.set_schedule(model, prune.wrapped_weights(model)[0], OfTheUser())
        models.fit(model)
    with pytest.raises(ValueError, match="has a min_sparsity or max_sparsity, which only tfsparse.tfmot.Prune keeps"):
        models.fit(model, tfmot.PLL(models.data((17,)), sparsity=0.7))
    with pytest.raises(ValueError, match='with scope="layer" dense_50 has its own target: write scope="global"'):
        dense_model(50, scope="layer", min_sparsity=0.5)
    with pytest.raises(ValueError, match=r"\(min_sparsity, max_sparsity\)=\(0.9, 0.5\): expected the least"):
        dense_model(50, min_sparsity=0.9, max_sparsity=0.5)


class OfTheUser(stock.PruningSchedule):
    """A schedule that says no target."""

    def __call__(self, step):
        return self._should_prune_in_step(step, 0, -1, 1), tf.constant(0.7)

    def get_config(self):
        return {"class_name": "OfTheUser", "config": {}}

    @classmethod
    def from_config(cls, config):
        return cls()
