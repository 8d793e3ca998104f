import functools
import math
import re

import keras
import numpy as np
import pytest
from thoroughly import also

import tfsparse
from tfsparse import PLL, Prune, testing
from tfsparse.backend import replicas
from tfsparse.methods.pll import rules
from tfsparse.methods.pll.curvature import Curvature
from tfsparse.optimizers import compiled_model
from tfsparse.testing.fixtures import (
    AfterEveryStep,
    Interruption,
    assert_pruned_are_zero,
    assert_same,
    interrupt,
    num_zeros,
    to_arrays,
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STEPS = 4  # per epoch
ENTRIES = 800
on_tensorflow = keras.backend.backend() == "tensorflow"


def small_model():
    """`ENTRIES` in two kernels."""
    keras.utils.set_random_seed(7)
    hidden = keras.layers.Dense(20, activation="tanh", name="hidden")
    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), hidden, keras.layers.Dense(4)])


def compiled(optimizer=None, **options):
    model = small_model()
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), LOSS, **options)
    return model


def calibration():
    x, y = testing.small_data()
    return x[:16], y[:16]


def pll(sparsity=0.75, every=2, **options):
    return PLL(calibration(), sparsity, every=every, **options)


def fit(model, *callbacks, epochs=10, **options):
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **options)
    return model


def all_zeros(model):
    return sum(num_zeros(mask) for mask in compiled_model.sparse_optimizer(model).masks)


def test_reaches_what_global_magnitude_reaches_by_the_end_and_keeps_it():
    callback, seen = pll(), []

    def look(model):
        assert_pruned_are_zero(model, "after a step")
        seen.append(all_zeros(model))

    model = fit(compiled(), callback, AfterEveryStep(look))
    expected = fit(compiled(), Prune("linear", 0.75, {"name": "magnitude", "scope": "global"}))
    assert all_zeros(model) == all_zeros(expected) > 0
    assert seen == sorted(seen)
    history = callback.history
    last = history[-1]["step"]
    assert seen[last - 2] < seen[last - 1] == seen[-1]
    assert last <= 20  # of 40 steps
    assert [record["step"] for record in history] == list(range(2, last + 1, 2))  # nothing is measured after the end
    looks, events = sum("kappa" in record for record in history), sum("h" in record for record in history)
    assert looks + events == len(history) + 1  # both at the start
    assert ["kappa" in record for record in history] == [True] * looks + [False] * (events - 1)
    assert 1 < looks <= 4  # the latest start is 0.2 of 40 steps
    assert all(record["sparsity"] == 0 for record in history[: looks - 1])
    assert callback.products == 5 + 3 * (looks - 1) + 2 * events
    memory = compiled_model.sparse_optimizer(model).extra_state
    direction = np.concatenate([d.ravel() for d in to_arrays([memory["direction_0"], memory["direction_1"]])])
    assert np.linalg.norm(direction) == pytest.approx(1, rel=1e-4)  # the last eigenvector, where the next one starts


def test_an_event_prunes_what_the_rules_say():
    callback, states = pll(sparsity=None, start=rules.FixedStart(0.1)), []
    look = AfterEveryStep(
        lambda m: states.append([to_arrays(m.optimizer.pruned_variables), to_arrays(m.optimizer.masks)])
    )
    fit(compiled(), look, callback)  # looks before it prunes
    events = [r for r in callback.history if "h" in r]
    assert len(events) == 9
    spent = 0.0
    for event in events:
        weights, masks = states[event["step"] - 1]
        living = np.sort(np.concatenate([np.abs(w[m > 0]) for w, m in zip(weights, masks, strict=True)]))
        rises = event["h"] / 2 * np.cumsum(living.astype("float64") ** 2) / event["loss"]
        admitted = min(int(np.sum(rises <= min(0.25, 1.0 - spent))), int(0.2 * len(living)))
        assert abs(event["pruned"] - admitted) <= 1
        assert event["rise"] == pytest.approx(rises[event["pruned"] - 1] if event["pruned"] else 0.0, rel=1e-4)
        spent += event["rise"]
    assert sum(e["pruned"] for e in events) > 0
    assert callback._progress.spent == pytest.approx(spent, rel=1e-5)


def test_without_a_target_the_sum_of_all_rises_ends_pruning():
    def run(total):
        callback = pll(sparsity=None, start=rules.FixedStart(0.05), end=1.0, rate=rules.LossBudget(total=total))
        fit(compiled(), callback)
        return callback

    little, more = run(0.05), run(0.5)
    for callback, total in ((little, 0.05), (more, 0.5)):
        assert sum(event["rise"] for event in callback.history) <= total * 1.0001
    assert 0 < little.current_sparsity() < more.current_sparsity()
    assert [event["pruned"] < 8 for event in little.history[-3:]] == [True] * 3  # less than a hundredth of 800
    assert little.history[-1]["step"] < 40


def test_a_large_budget_reaches_the_target_long_before_the_end():
    rate = rules.LossBudget(tolerance=1e9, total=math.inf, max_share=0.5)
    callback = pll(start=rules.FixedStart(0.05), end=1.0, rate=rate)
    fit(compiled(), callback)
    assert [record["pruned"] for record in callback.history] == [300, 150, 75, 37, 19, 19]  # halves, and the rest
    assert callback.reached_target() and "ended at 12 of 40, sparsity 0.7500" in callback.summary()


def test_measures_the_living_weights_of_the_calibration_batch():
    callback, seen, fresh = pll(start=rules.FixedStart(0.05)), [], small_model()
    curvature = Curvature(fresh, calibration(), LOSS)

    def look(model):
        fresh.set_weights(model.get_weights())
        masks = to_arrays(model.optimizer.masks)
        living = sum(m.sum() for m in masks)
        seen.append((curvature.trace(2, len(seen) + 1, masks) / living, curvature.loss()))

    fit(compiled(), AfterEveryStep(look), callback, epochs=4)
    events = [r for r in callback.history if "h" in r]
    assert len(events) >= 3
    for event in events:
        assert (event["h"], event["loss"]) == pytest.approx(seen[event["step"] - 1], rel=1e-3, abs=1e-7)


def test_slots_of_what_is_pruned_are_emptied_at_once():
    found = []

    def look(model):
        optimizer = model.optimizer
        state = optimizer.mask_state
        pairs = [(m, slot) for p, m in enumerate(optimizer.masks) for slot in state.slots(p)]
        found.append(max(np.abs(to_arrays([s.variable])[0][to_arrays([m])[0] == 0]).max(initial=0.0) for m, s in pairs))
        assert len(pairs) == len(optimizer.masks)

    callback = pll(every=4)
    fit(compiled(), callback, AfterEveryStep(look))
    events = [record["step"] for record in callback.history if record["pruned"]]
    assert len(events) >= 3
    assert all(found[step - 1] == 0 for step in events)


def test_without_a_target_it_stops_by_itself():
    class Nothing(rules.Rate):
        def admitted(self, progress, probe, living, final_living):
            return (living // 10 if living > 700 else 0), {}

    callback = pll(sparsity=None, start=rules.FixedStart(0.05), rate=Nothing())
    model = fit(compiled(), callback)
    counts = [record["pruned"] for record in callback.history]
    first = counts.index(0, 2)
    assert counts[1] > 0
    assert counts[first:] == [0, 0, 0]  # three in a row, and no check after them
    assert 0 < callback.current_sparsity() < 1
    assert callback.history[-1]["step"] < 20
    assert f"ended at {callback.history[-1]['step']} of 40" in callback.summary()
    assert compiled_model.sparse_optimizer(model).current_sparsity() == callback.current_sparsity()


def test_at_most_five_products_at_a_check():
    callback, products, found = pll(), [], []

    def count(curvature):
        for name in ("_compiled_iteration", "_compiled_sample"):
            function = getattr(curvature, name)
            setattr(curvature, name, lambda *a, _function=function: products.append(1) or _function(*a))
        return curvature

    prepare = callback._prepare
    callback._prepare = lambda model: count(prepare(model))
    fit(compiled(), callback, AfterEveryStep(lambda m: found.append(len(products))))
    assert found[-1] == callback.products > 15
    assert max(np.diff([0, *found])) == 5


@pytest.mark.exhaustive
def test_steps_per_execution_and_accumulation():
    callback = pll(every=3)
    model = fit(compiled(steps_per_execution=2, jit_compile=False), callback)
    steps = [record["step"] for record in callback.history]
    assert steps == [4, 6, 10, 12, 16, 18]  # the first hook at or after a multiple of 3
    callback = pll(every=3)
    accumulating = fit(compiled(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)), callback, epochs=20)
    assert [record["step"] for record in callback.history] == [3, 6, 9, 12, 15, 18]
    assert all_zeros(model) == all_zeros(accumulating) == ENTRIES * 3 // 4


def resumed_callback(**options):
    return pll(total_steps=10 * STEPS, **options)


@functools.cache
def straight_run(every):
    return fit(compiled(), pll(every=every))


@pytest.mark.parametrize("epoch", [1, *also([3])])  # before the start, between events
def test_resume_from_a_file_is_the_straight_run(tmp_path, epoch):
    straight = straight_run(2)
    first = fit(compiled(), resumed_callback(), epochs=epoch)
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    callback = resumed_callback()
    fit(second, callback, initial_epoch=epoch)
    assert_same(second, straight, "resumed from a .keras file")
    assert all(record["step"] > STEPS * epoch for record in callback.history)
    for name, variable in compiled_model.sparse_optimizer(straight).extra_state.items():
        again = compiled_model.sparse_optimizer(second).extra_state[name]
        np.testing.assert_array_equal(*to_arrays([variable, again]), err_msg=name)


@pytest.mark.exhaustive
def test_resume_from_backup_is_the_straight_run(tmp_path):
    for stop in ([interrupt(2)], [interrupt(4)], []):
        model = compiled()
        try:
            fit(model, keras.callbacks.BackupAndRestore(tmp_path), pll(), *stop)
        except Interruption:
            assert stop
    assert_same(model, straight_run(2), "resumed from BackupAndRestore")


@pytest.mark.exhaustive
def test_a_check_that_was_saved_before_it_was_made_is_made_first(tmp_path):
    """BackupAndRestore ahead of PLL saves the last step of an epoch without the check that is due there."""
    callback = resumed_callback()
    fit(compiled(), keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", save_freq=4), callback, epochs=3)
    loaded, callback = keras.models.load_model(tmp_path / "model.keras"), resumed_callback()
    fit(loaded, callback, initial_epoch=3)
    assert callback.history[0]["step"] == 12
    assert_same(loaded, straight_run(2), "resumed with a check due")


@pytest.mark.exhaustive
def test_a_second_fit_holds_and_another_target_goes_on():
    model = fit(compiled(), pll(0.5))
    held, before = to_arrays(model.optimizer.masks), model.optimizer
    callback = pll(0.5)
    fit(model, callback, epochs=2)
    assert callback.history == []
    assert model.optimizer is before
    assert all(np.array_equal(a, b) for a, b in zip(held, to_arrays(model.optimizer.masks), strict=True))
    seen = []
    fit(model, pll(0.9), AfterEveryStep(lambda m: seen.append(all_zeros(m))))
    assert seen[0] == sum(int(np.sum(m == 0)) for m in held)
    assert seen[-1] > seen[0]
    new = to_arrays(model.optimizer.masks)
    assert all(not np.any(b[a == 0]) for a, b in zip(held, new, strict=True))


def test_logs_share_and_the_printed_summary(capsys):
    x, y = testing.small_data()
    callback = pll()
    history = compiled().fit(x, y, batch_size=16, epochs=10, verbose=2, callbacks=[callback]).history
    assert set(history) == {"loss", "sparsity", "curvature", "measuring_share"}
    assert history["curvature"][-1] == np.float32(callback.history[-1]["h"])
    assert history["sparsity"][-1] == callback.current_sparsity()
    assert 0 < callback.measuring_share(False) < callback.measuring_share() < 1
    assert 0 < callback.cost.seconds_first < callback.cost.seconds
    assert "PLL: started at step" in capsys.readouterr().out


@pytest.mark.skipif(not on_tensorflow, reason="tf.distribute")
def test_two_replicas_are_one_device():
    def digests(model):
        copies = zip(*[replicas.replica_values(m) for m in model.optimizer.masks], strict=True)
        found.append({replicas.digest(masks) for masks in copies})

    single, found = pll(start=rules.FixedStart(0.1)), []
    alone = fit(compiled(jit_compile=False), single)
    with testing.two_cpu_strategy().scope():
        mirrored = compiled(jit_compile=False)
    together = pll(start=rules.FixedStart(0.1))
    fit(mirrored, together, AfterEveryStep(digests))
    assert all(len(each) == 1 for each in found)
    assert [r["pruned"] for r in together.history] == [r["pruned"] for r in single.history]
    assert_same(mirrored, alone, "two replicas instead of one device", exactly=False)
    copies = zip(*[replicas.replica_values(v) for v in mirrored.optimizer.pruned_variables], strict=True)
    first, second = (list(c) for c in copies)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.skipif(not on_tensorflow, reason="tf.distribute")
def test_a_replica_of_its_own_mind_is_caught():
    def flip(step, logs=None):
        if step == 2:
            copy = mirrored.optimizer.masks[0].value.values[1]
            copy.assign(1 - copy)

    with testing.two_cpu_strategy().scope():
        mirrored = compiled(jit_compile=False)
    callback = pll(start=rules.FixedStart(0.1), every=4)
    with pytest.raises(RuntimeError, match="hidden/kernel"):
        fit(mirrored, keras.callbacks.LambdaCallback(on_train_batch_end=flip), callback, epochs=10)
    assert callback.history == []  # before the first event, which is in step 4, has pruned


def test_loss_scaling_and_exclusion():
    model = compiled(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    fit(model, pll(skip_last=True))
    optimizer = compiled_model.sparse_optimizer(model)
    assert len(optimizer.masks) == 1
    assert num_zeros(optimizer.masks[0]) == round(0.75 * math.prod(optimizer.masks[0].shape))


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_a_fit_that_is_stopped_is_cut_with_a_warning():
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model = compiled()
    with pytest.warns(UserWarning, match="Training ended at step 4 of 40, at a sparsity of 0.0000: cut to the target"):
        fit(model, pll(), stop)
    assert compiled_model.sparse_optimizer(model).current_sparsity() == pytest.approx(0.75, abs=0.01)
    assert tfsparse.report(model).unfinished is None


def test_errors_come_before_the_first_step():
    model = compiled()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"every=30 of 40 steps leaves no check in the first 20.*every=2\)"):
        fit(model, pll(every=30))
    with pytest.raises(TypeError, match=r"data=ndarray: expected one batch"):
        fit(compiled(), PLL(testing.small_data()[0]))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    with pytest.raises(ValueError, match="Did you mean sparsity=0.9"):
        PLL(calibration(), sparsity=90)
    with pytest.raises(ValueError, match="every=0: expected training steps between checks"):
        PLL(calibration(), every=0)
    with pytest.raises(ValueError, match=r"end=1.5: expected a fraction of training in \(0, 1\]"):
        PLL(calibration(), end=1.5)
    with pytest.raises(ValueError, match="call model.compile"):
        pll().set_model(small_model())


def test_a_fit_that_ends_short_is_refused():
    model = fit(compiled(), resumed_callback(), epochs=1)
    with pytest.raises(ValueError, match=r"PLL has done 4 of 40 steps.* only 8.*total_steps=40"):
        fit(model, pll(), epochs=2)


@pytest.mark.parametrize("epoch", [3, 10])
def test_a_file_of_version_0_1_is_held_or_refused(epoch, tmp_path, monkeypatch):
    dump = rules.Progress.dump
    with monkeypatch.context() as old:
        old.setattr(rules.Progress, "dump", lambda self: dump(self)[:10])  # without `spent`
        fit(compiled(), resumed_callback(), epochs=10).save(tmp_path / "10.keras")
        fit(compiled(), resumed_callback(), epochs=3).save(tmp_path / "3.keras")
    model = keras.models.load_model(tmp_path / f"{epoch}.keras")
    if epoch == 3:
        with pytest.raises(ValueError, match=r"by tfsparse 0\.1 before its pruning by PLL had ended.*model.compile"):
            fit(model, resumed_callback(), initial_epoch=3)
    else:
        zeros = all_zeros(model)
        fit(model, resumed_callback(), epochs=1)
        assert all_zeros(model) == zeros == ENTRIES * 3 // 4


def test_unknown_length():
    def endless():
        while True:
            yield calibration()

    with pytest.raises(ValueError, match=r"length is unknown.*steps_per_epoch"):
        compiled().fit(endless(), shuffle=False, verbose=0, callbacks=[pll()])
    history = compiled().fit(endless(), shuffle=False, steps_per_epoch=20, verbose=0, callbacks=[pll()]).history
    assert history["sparsity"][-1] == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("sparsity", [0.75, *also([None])])
def test_a_file_from_before_the_end_of_pruning_is_told_apart(sparsity, tmp_path):
    target = "the target is 0.75" if sparsity else "and pruning had not ended"
    fit(compiled(), pll(sparsity), keras.callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}.keras"))
    model = keras.models.load_model(tmp_path / "03.keras")
    sentence = rf"'sequential\w*' is from before the target was reached: PLL is at step 12 of 40, 0\.\d+ .*, {target}"
    assert re.match(sentence, tfsparse.report(model).unfinished)
    assert any(re.match(sentence, finding) for finding in tfsparse.doctor(model, measure=False).findings)
    with pytest.warns(UserWarning, match=f"^{sentence}. It is exported as it is"):
        tfsparse.export(model, tmp_path / "out")
    assert tfsparse.report(keras.models.load_model(tmp_path / "10.keras")).unfinished is None
