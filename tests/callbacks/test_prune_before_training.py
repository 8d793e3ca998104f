"""`Prune` with a pruner that computes its masks once, on data, before the first step."""

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse import Prune, pruners, testing
from tfsparse.optimizers import compiled_model, one_shot
from tfsparse.testing import fixtures

DATA = testing.small_data()


def snip(**options):
    return Prune("constant", 0.8, pruners.SNIP(rounds=3), data=DATA, **options)


def masks(model):
    return fixtures.to_arrays(compiled_model.sparse_optimizer(model).masks)


def assert_equal(arrays, expected):
    assert all(np.array_equal(a, b) for a, b in zip(arrays, expected, strict=True))


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_the_masks_are_those_of_prune_before_training_and_stay(name):
    pruner = pruners.GraSP(samples_per_class=2) if name == "grasp" else pruners.get(name, rounds=3)
    once, data = testing.small_model(), None if name == "synflow" else DATA
    once.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tfsparse.prune(once, 0.8, pruner, data=data, exclude="head")
    model = fixtures.fit(pruner, prune=Prune("constant", 0.8, pruner, data=data, exclude="head"))
    assert_equal(masks(model), [v != 0 for v in fixtures.to_arrays(once.trainable_variables[:4:2])])
    fixtures.assert_pruned_are_zero(model, "after training")
    assert np.all(fixtures.to_arrays([model.get_layer("head").kernel])[0] != 0)


def test_every_epoch_is_at_the_target_and_the_optimizer_knows_the_pruner(capsys):
    model = fixtures.fit(None, prune=(prune := snip(verbose=1)), epochs=2)
    assert "from epoch 1 of 2 on" in capsys.readouterr().out
    history = model.history.history
    assert history["at_target"] == [1, 1] and history["sparsity"] == [pytest.approx(0.8, abs=1e-3)] * 2
    assert tfsparse.report(model).sparsity == pytest.approx(0.8, abs=1e-3)
    assert prune.reached_target() and compiled_model.sparse_optimizer(model).pruner == pruners.SNIP(rounds=3)


@pytest.fixture
def num_scored(monkeypatch):
    """A list that gets an item whenever the weights of a model are scored."""
    calls, prune = [], one_shot.prune_in_rounds
    monkeypatch.setattr(one_shot, "prune_in_rounds", lambda *arguments: (calls.append(1), prune(*arguments)))
    return calls


def test_a_training_that_resumes_from_a_backup_does_not_prune_again(num_scored, tmp_path):
    straight = fixtures.fit(None, prune=snip(), epochs=3)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(fixtures.Interruption):
        fixtures.fit(None, prune=snip(), epochs=3, callbacks=[backup, fixtures.interrupt(2)])
    other = testing.small_model()
    other.set_weights([w + 1 for w in other.get_weights()])  # would be pruned to other masks
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    resumed = fixtures.fit(None, model=other, prune=snip(), epochs=3, callbacks=[backup])
    assert len(num_scored) == 2
    fixtures.assert_same(resumed, straight, "resumed from BackupAndRestore")


def test_a_model_that_is_loaded_trains_on_with_its_masks_and_without_the_data(num_scored, tmp_path):
    straight = fixtures.fit(None, prune=snip(), epochs=4)
    first = fixtures.fit(None, prune=snip(total_steps=4 * fixtures.STEPS), epochs=2)
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    again = Prune("constant", 0.8, pruners.SNIP(rounds=3))
    fixtures.fit_compiled(second, [again], epochs=4, initial_epoch=2)
    assert len(num_scored) == 2
    fixtures.assert_same(second, straight, "resumed from a .keras file")


def test_a_model_that_was_compiled_anew_keeps_its_masks(num_scored):
    model = fixtures.fit(None, prune=snip(), epochs=1)
    before = masks(model)
    fixtures.fit(None, model=model, prune=snip(), epochs=1)
    assert_equal(masks(model), before)
    assert len(num_scored) == 1


def test_weights_that_a_callback_has_written_are_pruned_again():
    dense = keras.callbacks.LambdaCallback(on_train_end=lambda _: model.set_weights(before))
    model = testing.small_model()
    before = model.get_weights()
    with pytest.warns(UserWarning, match="Another callback has written the weights"):
        fixtures.fit(None, model=model, prune=snip(), callbacks=[dense])
    assert compiled_model.sparse_optimizer(model).current_sparsity() == pytest.approx(0.8, abs=1e-3)
    fixtures.assert_pruned_are_zero(model, "after writing")


def test_all_execution_modes_give_the_same():
    eager = fixtures.fit(None, prune=snip(), run_eagerly=True)
    for options in ({"jit_compile": True}, {"steps_per_execution": 3, "jit_compile": False}):
        fixtures.assert_same(fixtures.fit(None, prune=snip(), **options), eager, f"{options}", exactly=False)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas of tf.distribute")
def test_two_replicas_have_the_masks_of_one():
    with testing.two_cpu_strategy().scope():
        mirrored = fixtures.fit(None, prune=snip())
    fixtures.assert_same(mirrored, fixtures.fit(None, prune=snip()), "on two replicas", exactly=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one_cycle", 0.8, "snip"), r'SNIP\(.*prunes once, before.*write Prune\("constant", 0.8, pruner'),
        (("constant", 0.8, "magnitude"), r"data was given.*leave data out, or write for example Prune\("),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Prune(*arguments, data=DATA)


def test_data_that_is_missing_is_asked_for():
    with pytest.raises(ValueError, match=r"expected data=\(x, y\)"):
        fixtures.fit(None, prune=Prune("constant", 0.8, "snip"))
