"""Weights that `apply` never receives stay dense, and everything else counts the others."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import SparseOptimizer, testing
from tfsparse.testing import fixtures

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="on JAX a step gets all variables")
NEVER = "The optimizer never gets a gradient of .*teacher.*: they stay dense"


def network(name):
    layers = [keras.layers.Dense(16, "relu", name="hidden"), keras.layers.Dense(4, name="head")]
    return keras.Sequential([keras.Input((8,)), *layers], name=name)


class Distilling(keras.Model):
    """A teacher that is not frozen, and a student that learns from it."""

    def __init__(self, student="student"):
        super().__init__()
        self.teacher, self.student, self.built = network("teacher"), network(student), True

    def call(self, inputs):
        return self.student(inputs)

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.student(data[0]) - self.teacher(data[0])) ** 2)
        weights = self.student.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


class Unreached(Distilling):
    """Gives all variables to the optimizer, with None as gradients of the teacher."""

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.student(data[0]) ** 2)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss}


DATA = np.random.default_rng(0).normal(size=(64, 8)).astype("float32"), np.zeros((64, 4), "float32")


def distilled(*, model=None, **options):
    keras.utils.set_random_seed(0)
    model = model or Distilling()
    model.compile(keras.optimizers.Adam(0.01))
    with pytest.warns(UserWarning, match=NEVER):
        history = model.fit(*DATA, batch_size=16, epochs=3, verbose=0, callbacks=[tfsparse.Prune(**options)]).history
    return model, history


def zeros(model):
    return {v.path: int(np.sum(ops.convert_to_numpy(v) == 0)) for v in model.trainable_variables if v.name == "kernel"}


@ON_TENSORFLOW
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")
@pytest.mark.parametrize("make", [Distilling, Unreached])
@pytest.mark.parametrize("pruner", ["magnitude", {"name": "magnitude", "scope": "global"}, "rigl", "feather"])
def test_a_teacher_stays_dense_and_the_student_has_the_target(make, pruner):
    if make is Unreached and pruner not in ("magnitude", "rigl"):
        pytest.skip("what reaches the optimizer is told apart before the pruner is asked")
    model, history = distilled(model=make(), sparsity=0.75, pruner=pruner)
    assert {path: n for path, n in zeros(model).items() if "teacher" in path} == {
        "teacher/hidden/kernel": 0,
        "teacher/head/kernel": 0,
    }
    assert sum(zeros(model).values()) == 0.75 * (8 * 16 + 16 * 4)
    assert history["sparsity"][-1] == model.optimizer.current_sparsity() == 0.75
    assert len(model.optimizer.masks) == len(model.optimizer.pruned_variables) == 2


@ON_TENSORFLOW
def test_a_report_names_what_is_never_trained():
    model, _ = distilled(sparsity=0.75)
    rows = {r.weight: r for r in tfsparse.report(model).rows}
    assert tfsparse.report(model).sparsity == 0.75
    assert rows["teacher/hidden/kernel"].target is None
    assert "gradient" in rows["teacher/hidden/kernel"].dense_because


@ON_TENSORFLOW
def test_a_saved_file_knows_what_is_never_trained(tmp_path):
    model, _ = distilled(sparsity=0.75)
    optimizer = SparseOptimizer.from_config(model.optimizer.get_config())
    optimizer.build(model.trainable_variables)
    store = {}
    model.optimizer.save_own_variables(store)
    optimizer.load_own_variables(store)
    assert [v.path for v in optimizer.untrained_variables] == ["teacher/hidden/kernel", "teacher/head/kernel"]
    assert optimizer.current_sparsity() == 0.75


@ON_TENSORFLOW
def test_a_resumed_training_equals_the_straight_one(tmp_path):
    def trained(*epochs):
        keras.utils.set_random_seed(0)
        for last in epochs:
            model = Distilling()
            model.compile(keras.optimizers.Adam(0.01))
            backup = keras.callbacks.BackupAndRestore(tmp_path / str(len(epochs)), delete_checkpoint=False)
            prune = tfsparse.Prune("polynomial", 0.75, total_steps=16)
            with pytest.warns(UserWarning, match=NEVER):
                model.fit(*DATA, batch_size=16, epochs=last, verbose=0, shuffle=False, callbacks=[backup, prune])
        return model

    for one, other in zip(trained(4).get_weights(), trained(2, 4).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@ON_TENSORFLOW
def test_two_calls_with_different_variables_train_both():
    """As a GAN with one optimizer makes them: what any call has received is pruned at the end of a step."""
    first, second = (network(name) for name in ("generator", "discriminator"))
    variables = first.trainable_variables + second.trainable_variables
    optimizer = SparseOptimizer(keras.optimizers.SGD(0.1), "constant", sparsity=0.75, total_steps=4)
    optimizer.build(variables)
    for network_ in (first, second):
        optimizer.apply([ops.ones(v.shape) for v in network_.trainable_variables], network_.trainable_variables)
    assert not optimizer.untrained_variables
    optimizer.apply([ops.ones(v.shape) for v in second.trainable_variables], second.trainable_variables)
    assert optimizer.current_sparsity() == 0.75


def test_a_step_with_all_variables_prunes_all():
    model = testing.small_model()
    optimizer = SparseOptimizer("sgd", "constant", sparsity=0.75, total_steps=4)
    optimizer.build(model.trainable_variables)
    optimizer.apply([ops.ones(v.shape) for v in model.trainable_variables])
    assert not optimizer.untrained_variables and len(optimizer.masks) == 3


# ---- other weights are trainable than when the file was saved -------------------------------------------------------


def freeze_all(model):
    model.trainable = False


def freeze_some(model):
    for layer in model.layers[:-1]:
        layer.trainable = False


def quantise(model):
    model.quantize("int8")


def loaded_with_warnings(path):
    """Keras's own about the inner optimizer, and one about the masks."""
    masks = "The masks of 'sparse_adam.*' are not loaded: other weights of the model are trainable"
    with pytest.warns(UserWarning, match="Skipping variable loading for"), pytest.warns(UserWarning, match=masks):
        return keras.models.load_model(path)


PER_LAYER = tfsparse.Magnitude(scope="layer")


def trained(model, schedule="one_cycle"):
    """The model, trained by an optimizer of its own to 75 % zeros."""
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfsparse.Prune(schedule, 0.75, PER_LAYER)])
    return model


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("change", [freeze_all, freeze_some, quantise])
def test_a_pruned_model_loads_when_other_weights_are_trainable(change, tmp_path):
    model = trained(testing.small_model())
    change(model)
    model.save(tmp_path / "model.keras")
    loaded = loaded_with_warnings(tmp_path / "model.keras")
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert tfsparse.report(loaded).sparsity == tfsparse.report(model).sparsity == 0.75


def test_a_partly_frozen_model_trains_on_after_it_was_loaded(tmp_path):
    model = trained(testing.small_model())
    freeze_some(model)
    model.save(tmp_path / "model.keras")
    loaded = trained(loaded_with_warnings(tmp_path / "model.keras"), "constant")
    assert tfsparse.report(loaded).sparsity == 0.75


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough for a legacy format")
def test_a_legacy_file_loads(tmp_path):
    """Keras builds the optimizer of a Sequential model in an .h5 file on no variables at all."""
    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsity=0.75)])
    model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    assert tfsparse.report(loaded).sparsity == 0.75


def test_nothing_to_prune_is_still_an_error_for_a_new_optimizer():
    model = testing.small_model()
    model.trainable = False
    with pytest.raises(ValueError, match="Nothing to prune: none of the 0 trainable variables"):
        SparseOptimizer("adam", total_steps=4).build(model.trainable_variables)


def test_a_global_target_is_counted_over_the_whole_at_every_step():
    model = keras.Sequential([keras.Input((7,)), *[keras.layers.Dense(7) for _ in range(9)]])
    pruner = tfsparse.Magnitude(scope="global")
    optimizer = SparseOptimizer("sgd", "linear", sparsity=0.8, pruner=pruner, total_steps=10)
    optimizer.set_sparsity(model.layers[4], 0.5)  # a kernel of its own
    variables = model.trainable_variables
    for step in range(1, 11):
        optimizer.apply([ops.zeros(v.shape) for v in variables], variables)
        own, others = round(24 * step / 10), round(314 * step / 10)  # of 0.5 * 49, and of 0.8 * 8 * 49
        zeros = [testing.fixtures.num_zeros(m) for m in optimizer.masks]
        assert (zeros[4], sum(zeros) - zeros[4]) == (own, others), step


def test_bounds_hold_at_every_step_and_in_a_resumed_training(tmp_path):
    bounds = {"sparsities": {"hidden": (0.0, 0.6)}, "min_sparsity": 0.5, "max_sparsity": 0.9}
    model, seen = testing.small_model(), []

    def see(model):
        seen.append([float(np.mean(mask == 0)) for mask in fixtures.to_arrays(model.optimizer.masks)])

    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    prune = tfsparse.Prune("one_cycle", 0.6, total_steps=12, **bounds)
    options = {"batch_size": 16, "verbose": 0, "callbacks": [prune, fixtures.AfterEveryStep(see)]}
    model.fit(x, y, epochs=2, **options)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    model.fit(x, y, epochs=1, **options)
    conv, hidden, head = np.transpose(seen)
    assert len(seen) == 12 and max(hidden) <= 0.6 and max(conv) <= 0.9 and max(head) <= 0.9
    assert conv[-1] >= 0.5 and head[-1] >= 0.5 and tfsparse.report(model).sparsity == pytest.approx(0.6, abs=1e-3)
    assert all(a <= b + 1e-6 for a, b in itertools.pairwise(conv))  # a least sparsity grows with the common one
