"""`Prune(sparsity="auto")`: in `fit`, resumed, on two replicas, and what is said if no level holds."""

import contextlib
import io
import types
import warnings

import keras
import numpy as np
import pytest
from thoroughly import also

import tfsparse
from tfsparse.backend import replicas
from tfsparse.callbacks import level_search
from tfsparse.optimizers import compiled_model, evaluation
from tfsparse.schedules import Auto
from tfsparse.testing import devices, fixtures

SCHEDULE = Auto((0.5, 0.75, 0.875), drop=0.1, resolution=0.2)
EPOCHS, SIZE = 10, 36 + 8 * 64 + 32  # SIZE: entries of the pruned weights


# ---- in fit ---------------------------------------------------------------------------------------------------------


class Scripted:
    """Stands for `evaluate`: says an accuracy for each sparsity, so that the decisions are known."""

    def __init__(self, accuracy):
        self.accuracy, self.weights = accuracy, []

    def __call__(self, model, data):
        optimizer = compiled_model.sparse_optimizer(model)
        self.weights.append(fixtures.to_arrays(optimizer.pruned_variables))
        return {"loss": 1.0, "accuracy": self.accuracy(round(optimizer.current_sparsity(), 3))}


def prune(pruner="magnitude", schedule=SCHEDULE, **options):
    return tfsparse.Prune(schedule, "auto", pruner, validation=fixtures.small_data(), **options)


def compiled(**options):
    model = fixtures.small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], **options)
    return model


def until(highest):
    """An accuracy that holds up to a sparsity."""
    return lambda sparsity: 0.9 if sparsity <= highest else 0.7


@pytest.fixture
def scripted(monkeypatch):
    def script(accuracy):
        monkeypatch.setattr(level_search, "evaluate", stand_in := Scripted(accuracy))
        return stand_in

    return script


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training in which 0.5 and 0.75 hold and 0.875 does not, and what was seen in it."""
    folder, passed, ends = tmp_path_factory.mktemp("auto"), [], []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: passed.append(epoch + 1))
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(arrays(model)))
    checkpoint = keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras")
    model, output = compiled(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(level_search, "evaluate", seen := Scripted(until(0.76)))
        fixtures.fit_compiled(model, [prune(verbose=1), tfsparse.AtTarget(record), after, checkpoint], EPOCHS)
    return types.SimpleNamespace(
        model=model, folder=folder, passed=passed, ends=ends, seen=seen.weights, output=output.getvalue()
    )


def arrays(model):
    return fixtures.to_arrays(compiled_model.sparse_optimizer(model).pruned_variables)


def test_the_network_has_exactly_the_zeros_of_the_level_that_was_found(training):
    optimizer = training.model.optimizer
    fixtures.assert_target(training.model, tfsparse.Magnitude(), 0.75)
    assert optimizer.reached_target() and tfsparse.report(training.model).unfinished is None
    assert sum(optimizer.mask_state.target_counts()) == optimizer.num_zeros() == round(0.75 * SIZE)


@pytest.mark.parametrize(
    "pruner",
    ["feather", *also([tfsparse.Magnitude(scope="layer"), "random", tfsparse.Magnitude("channel", "layer"), "rigl"])],
    ids=repr,
)
def test_every_pruner_ends_at_the_level_that_was_found(pruner, scripted):
    scripted(until(0.76))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*prunes whole units")
        model = fixtures.fit_compiled(compiled(), [prune(pruner)], EPOCHS)
    fixtures.assert_target(model, tfsparse.pruners.get(pruner), 0.75)


def test_history_has_the_sparsity_the_limit_and_whether_it_held(training):
    history = training.model.history.history
    expected = [0, 0, 0.5, 0.75, 0.875, 0.875, 0.75, 0.75, 0.75, 0.75]
    assert history["sparsity"] == pytest.approx(expected, abs=0.001)
    assert history["level_holds"] == [1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert history["drop_limit"] == pytest.approx([0.8] * EPOCHS)
    assert history["at_target"] == [0] * 6 + [1] * 4


def test_at_target_passes_on_the_epochs_that_were_trained_at_the_level_that_was_found(training):
    assert training.passed == [7, 8, 9, 10]


def test_verbose_says_each_decision(training):
    lines = training.output.splitlines()
    assert lines[0].startswith("Prune: dense until 20% of training, then a search")
    assert lines[4] == "Prune: accuracy 0.9000 at sparsity 0.7500 holds 0.8000."
    assert lines[5] == "Prune: accuracy 0.7000 at sparsity 0.8759 misses the limit 0.8000."


def test_weights_return_with_the_values_that_they_had_when_the_level_held(training):
    """Epoch 4 holds, epochs 5 and 6 miss, and the model goes back at the end of epoch 6, after its validation."""
    for held, missed, back in zip(training.seen[3], training.seen[5], training.ends[5], strict=True):
        lost = (held != 0) & (missed == 0)
        assert lost.any()
        np.testing.assert_array_equal(back[lost], held[lost])
        np.testing.assert_array_equal(back[~lost], missed[~lost])


def test_a_checkpoint_of_the_way_up_is_the_model_that_was_validated(training):
    loaded = keras.models.load_model(training.folder / "4.keras")
    for saved, validated in zip(arrays(loaded), training.seen[3], strict=True):
        np.testing.assert_array_equal(saved, validated)


def test_a_checkpoint_of_the_search_continues_as_the_straight_run(training, scripted):
    scripted(until(0.76))
    for epoch in (3, 5):
        loaded = keras.models.load_model(training.folder / f"{epoch}.keras")
        fixtures.fit_compiled(loaded, [prune()], EPOCHS, initial_epoch=epoch)
        fixtures.assert_same(loaded, training.model, f"resumed after epoch {epoch}")
        states = [m.optimizer.extra_state["search"] for m in (loaded, training.model)]
        np.testing.assert_array_equal(*fixtures.to_arrays(states))


def test_validation_of_fit_is_read_if_there_is_no_other():
    x, y = fixtures.small_data()
    callback = tfsparse.Prune(Auto((0.5,), drop=0.49), "auto")
    history = compiled().fit(x, y, epochs=5, verbose=0, validation_data=(x, y), callbacks=[callback]).history
    best = np.maximum.accumulate(history["val_accuracy"])
    assert history["drop_limit"][-1] == pytest.approx(best[-1] - 0.49, abs=1e-6)  # after the search
    assert history["drop_limit"][1] == pytest.approx(best[0] - 0.49, abs=1e-6)
    assert history["sparsity"][-1] == pytest.approx(0.5, abs=0.001)


def test_a_loss_is_limited_from_above():
    schedule, (x, y) = Auto((0.5,), drop=3.0, metric="loss"), fixtures.small_data()
    history = (
        compiled()
        .fit(x, y, epochs=5, verbose=0, validation_data=(x, y), callbacks=[tfsparse.Prune(schedule, "auto")])
        .history
    )
    best = np.minimum.accumulate(history["val_loss"])
    np.testing.assert_allclose(history["drop_limit"][:2], [best[0] + 3.0] * 2, rtol=1e-5)
    np.testing.assert_allclose(history["drop_limit"][-1], best[-1] + 3.0, rtol=1e-5)  # after the search
    assert history["sparsity"][-1] == pytest.approx(0.5, abs=0.001)


@pytest.mark.parametrize("options", [{"steps_per_execution": 2, "jit_compile": False}, *also([{"run_eagerly": True}])])
def test_execution_modes_agree(options, scripted, training):
    scripted(until(0.76))
    other = fixtures.fit_compiled(compiled(**options), [prune()], EPOCHS)
    fixtures.assert_same(other, training.model, str(options), exactly=False)


def test_a_second_fit_trains_on_at_the_level_that_was_found(scripted, training):
    scripted(until(0.76))
    model = keras.models.load_model(training.folder / f"{EPOCHS}.keras")
    fixtures.fit_compiled(model, [prune()], 2)
    assert model.optimizer.num_zeros() == round(0.75 * SIZE)


def test_a_layer_with_a_sparsity_of_its_own_has_it_from_the_first_level_on(scripted):
    scripted(until(0.6))
    options = {"sparsities": {"hidden": 0.25}, "exclude": "head"}
    model = fixtures.fit_compiled(compiled(), [prune(**options)], EPOCHS)
    conv, hidden, head = fixtures.to_arrays([v for v in model.trainable_variables if len(v.shape) > 1])
    assert [np.sum(k == 0) for k in (conv, hidden, head)][1:] == [128, 0]
    assert model.optimizer.num_zeros() == model.optimizer.mask_state.target_counts().sum() > 128


# ---- resumed, and on two replicas ------------------------------------------------------------------------------------

DECISIONS = ("sparsity", "level_holds", "drop_limit", "at_target")


@pytest.mark.exhaustive
@pytest.mark.parametrize("pruner", ["magnitude", "feather"])
@pytest.mark.parametrize("epoch", [1, 3, 5, 8], ids=["dense", "on the way up", "after a miss", "after the search"])
def test_backup_and_restore_continues_the_search(epoch, pruner, scripted, tmp_path):
    """The decisions of both parts of the training are those of the straight one, and so is every bit at its end."""
    scripted(until(0.6))
    straight = fixtures.fit_compiled(compiled(), [prune(pruner)], EPOCHS)
    broken, backup = compiled(), keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(fixtures.Interruption):
        fixtures.fit_compiled(broken, [prune(pruner), backup, fixtures.interrupt(epoch)], EPOCHS)
    resumed = fixtures.fit_compiled(compiled(), [prune(pruner), keras.callbacks.BackupAndRestore(tmp_path)], EPOCHS)
    for name in DECISIONS:
        parts = [m.history.history[name] for m in (broken, resumed, straight)]
        assert [len(part) for part in parts] == [epoch, EPOCHS - epoch, EPOCHS]
        assert parts[0] + parts[1] == parts[2], name
    assert_same_bits(resumed, straight)


def assert_same_bits(model, other):
    """Of the weights and of everything in the optimizer: masks, dense weights, kept weights and the search."""
    pairs = zip(*([*m.variables, *m.optimizer.variables] for m in (model, other)), strict=True)
    for variable, expected in pairs:
        np.testing.assert_array_equal(*fixtures.to_arrays([variable, expected]), variable.path)


def evaluate_with_a_miss(model, data):
    """Return the true metrics, and an accuracy that is 0.5 lower above a sparsity of 0.76: this level misses."""
    results, misses = evaluation.evaluate(model, data), compiled_model.sparse_optimizer(model).current_sparsity() > 0.76
    return results | {"accuracy": results["accuracy"] - 0.5 * misses}


def fit_and_record(scope):
    """Return a trained model, and for each replica a digest of its masks after each step."""
    seen = []

    def record(model):
        copies = zip(*map(replicas.replica_values, model.optimizer.masks), strict=True)
        seen.append([replicas.digest(masks) for masks in copies])

    with scope:
        model = compiled()
    return fixtures.fit_compiled(model, [prune(), fixtures.AfterEveryStep(record)], EPOCHS), seen


@pytest.mark.exhaustive
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replicas are TensorFlow's")
def test_two_replicas_decide_as_one_device(monkeypatch):
    monkeypatch.setattr(level_search, "evaluate", evaluate_with_a_miss)
    alone, expected = fit_and_record(contextlib.nullcontext())
    mirrored, digests = fit_and_record(devices.two_cpu_strategy().scope())
    assert digests == [[digest, digest] for (digest,) in expected]
    history, other = alone.history.history, mirrored.history.history
    assert set(history["level_holds"]) == {0, 1}
    for name in DECISIONS:
        assert other[name] == pytest.approx(history[name]), name
    for variable in mirrored.optimizer.variables:
        first, *others = replicas.replica_values(variable)
        for copy in others:
            np.testing.assert_array_equal(copy, first, variable.path)
    fixtures.assert_same(mirrored, alone, "two replicas instead of one device", exactly=False)


# ---- what cannot work is one sentence -------------------------------------------------------------------------------


def test_no_validation_data_is_an_error_after_the_first_epoch():
    with pytest.raises(ValueError, match=r"needs validation data in every epoch.*write fit\(\.\.\., validation_data="):
        fixtures.fit_compiled(compiled(), [tfsparse.Prune(sparsity="auto")], EPOCHS)


def test_an_unknown_metric_names_those_that_are_there():
    x, y = fixtures.small_data()
    with pytest.raises(ValueError, match="metric='auc': the model has 'accuracy', 'loss'"):
        callback = tfsparse.Prune(Auto(metric="auc"), "auto")
        compiled().fit(x, y, epochs=5, verbose=0, validation_data=(x, y), callbacks=[callback])


def test_a_training_too_short_for_a_level_is_refused_before_its_first_step():
    model = compiled()
    with pytest.raises(ValueError, match=r"Training has 2 epochs, and sparsity=\"auto\" tries no level in it"):
        fixtures.fit_compiled(model, [prune()], 2)
    assert model.optimizer.steps_done == 0


def test_validation_data_for_a_given_sparsity_is_refused():
    with pytest.raises(ValueError, match='validation=... belongs to sparsity="auto"'):
        tfsparse.Prune(sparsity=0.5, validation=fixtures.small_data())


def test_if_no_level_holds_the_dense_figure_is_said(scripted):
    scripted(until(0))
    said = "No level holds at drop=0.1.*accuracy 0.7000 at sparsity .*accuracy 0.9000 at its last epoch before"
    with pytest.warns(UserWarning, match=said):
        model = fixtures.fit_compiled(compiled(), [prune()], EPOCHS)
    assert num_zeros(model) == 0


def test_a_drop_that_the_dense_network_itself_misses_is_said(scripted):
    values = iter([0.9, *[0.7] * EPOCHS])
    scripted(lambda sparsity: next(values))
    itself = "the network itself has accuracy 0.7000 at its last epoch before pruning, and 0.9000 at its best"
    with pytest.warns(UserWarning, match=itself), pytest.warns(UserWarning, match="The last epoch misses the limit"):
        model = fixtures.fit_compiled(compiled(), [prune()], EPOCHS)
    assert num_zeros(model) == 0


def test_a_training_that_ends_in_the_search_keeps_its_sparsity_and_says_so(scripted):
    scripted(until(1))
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 3))
    model = compiled()
    with pytest.warns(UserWarning, match="ended before the search for a sparsity did: the model stays at 0.7500"):
        fixtures.fit_compiled(model, [prune(), stop], EPOCHS)
    assert num_zeros(model) == model.optimizer.num_zeros() == round(0.75 * SIZE)


def test_a_network_sparser_than_all_levels_is_refused(scripted):
    model = compiled()
    fixtures.fit_compiled(model, [tfsparse.Prune(sparsity=0.9)], 3)
    with pytest.raises(ValueError, match=r"has 0.9000 zeros, and the last level of .* is 0.875: write higher levels"):
        fixtures.fit_compiled(model, [prune()], EPOCHS)


def num_zeros(model):
    return sum(fixtures.num_zeros(v) for v in compiled_model.sparse_optimizer(model).pruned_variables)
