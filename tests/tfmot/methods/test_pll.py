import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models

from tfsparse import tfmot
from tfsparse.backend import replicas
from tfsparse.methods.pll import rules
from tfsparse.testing import two_cpu_strategy

ENTRIES, STEPS = 1140, models.STEPS


def small():
    tf_keras.utils.set_random_seed(0)
    dense = tf_keras.layers.Dense
    first = dense(20, activation="tanh", name="hidden")
    return tf_keras.Sequential([tf_keras.layers.Input((6, 9)), tf_keras.layers.Flatten(), first, dense(3)])


def compiled(scope="global", schedule=None, **options):
    return models.compiled(tfmot.prune_low_magnitude(small(), schedule, scope=scope), **options)


def calibration():
    x, y = models.data((6, 9))
    return x[:16], y[:16]


def pll(sparsity=0.75, every=4, **options):
    return tfmot.PLL(calibration(), sparsity, every=every, **options)


def fit(model, *callbacks, epochs=5, **options):
    return models.fit(model, *callbacks, epochs=epochs, **options)


def all_zeros(model):
    return sum(int(np.sum(k == 0)) for k in models.masks(model))


@functools.cache
def straight_run():
    callback = pll()
    return fit(model := compiled(), callback) and (model, callback)


def test_reaches_the_target_by_the_end_and_keeps_it():
    callback = pll()
    look = models.EveryStep(lambda m: (all_zeros(m), [np.sum(k == 0) for k in models.kernels(m)]))
    model = compiled()
    history = fit(model, callback, look).history
    zeros = [masks for masks, _ in look.seen]
    assert zeros == sorted(zeros)
    assert zeros[-1] == zeros[19] == 855 > zeros[15]  # 0.75 of each kernel, after 20 of 40 steps
    assert all(masks == sum(weights) for masks, weights in look.seen if masks)
    assert [record["step"] for record in callback.history] == [4, 8, 12, 16, 20]
    assert history["sparsity"][-1] == 0.75
    assert history["curvature"][-1] == np.float32(callback.history[-1]["h"])
    looks = sum("kappa" in record for record in callback.history)
    events = sum("h" in record for record in callback.history)
    assert looks + events == 6  # both at the start
    assert callback.products == 5 + 3 * (looks - 1) + 2 * events


def test_decides_as_the_keras_3_road_does():
    """The same weights, batches and rules on both roads."""
    import keras

    import tfsparse

    ours, theirs = pll(start=rules.FixedStart(0.1)), None
    model = compiled()
    first = model.get_layer("prune_low_magnitude_hidden").layer.get_weights()
    layers = keras.layers
    twin = keras.Sequential([
        keras.Input((6, 9)),
        layers.Flatten(),
        layers.Dense(20, activation="tanh"),
        layers.Dense(3),
    ])
    twin.layers[1].set_weights(first)
    twin.layers[2].set_weights(model.layers[-1].layer.get_weights())
    twin.compile(keras.optimizers.SGD(0.05, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    theirs = tfsparse.PLL(calibration(), 0.75, every=4, start=rules.FixedStart(0.1))
    fit(model, ours)
    x, y = models.data((6, 9))
    twin.fit(x, y, batch_size=len(x) // STEPS, epochs=5, shuffle=False, verbose=0, callbacks=[theirs])
    assert len(ours.history) == len(theirs.history) == 5
    for mine, other in zip(ours.history, theirs.history, strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=2)
    for mine, other in zip(ours.history[1:], theirs.history[1:], strict=True):
        assert (mine["h"], mine["loss"]) == pytest.approx((other["h"], other["loss"]), rel=1e-2)


def test_slots_of_what_is_pruned_are_emptied_at_once():
    def look(model):
        pairs = zip(models.stock_wrappers(model), model.optimizer.momentums[::2], strict=True)
        return max(np.abs(m.numpy()[w.pruning_vars[0][1].numpy() == 0]).max(initial=0.0) for w, m in pairs)

    callback, seen = pll(), models.EveryStep(look)
    fit(compiled(), callback, seen)
    events = [record["step"] for record in callback.history if record["pruned"]]
    assert events
    assert all(seen.seen[step - 1] == 0 for step in events)


def test_backup_and_restore_gives_the_straight_run(tmp_path):
    class Stop(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == stop:
                raise KeyboardInterrupt

    callbacks = []
    for stop in (1, 2, 99):
        model = compiled()
        callbacks.append(pll())
        try:
            fit(model, tf_keras.callbacks.BackupAndRestore(str(tmp_path)), callbacks[-1], Stop())
        except KeyboardInterrupt:
            assert stop < 99
    straight, callback = straight_run()
    for mine, theirs in zip(model.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [record for each in callbacks for record in each.history] == callback.history


def test_the_memory_is_in_checkpoints_and_not_in_the_weights(tmp_path):
    straight, callback = straight_run()
    assert len(straight.get_weights()) == len(compiled().get_weights())
    path = tf.train.Checkpoint(model=straight).save(str(tmp_path / "checkpoint"))
    stored = tf.train.load_checkpoint(path)
    progress = stored.get_tensor("model/tfsparse_pll/progress/.ATTRIBUTES/VARIABLE_VALUE")
    assert rules.Progress.load(progress) == callback._progress


def test_a_second_fit_holds_and_another_target_goes_on():
    model = compiled()
    fit(model, pll(0.5))
    held, callback = models.masks(model), pll(0.5)
    fit(model, callback, epochs=1)
    assert callback.history == []
    for mine, theirs in zip(models.masks(model), held, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    fit(model, pll(0.9))
    assert all_zeros(model) == 1026
    assert all(not np.any(new[old == 0]) for new, old in zip(models.masks(model), held, strict=True))


def test_another_pll_goes_on_with_pruning_that_has_not_ended():
    model = compiled()
    fit(model, pll(total_steps=5 * STEPS), epochs=1)
    callback = pll(total_steps=5 * STEPS)
    fit(model, callback, initial_epoch=1)
    assert callback.history[0]["step"] > STEPS
    assert all_zeros(model) == 855


def test_without_a_target_it_stops_by_itself():
    class Twice(rules.Rate):
        def admitted(self, progress, probe, living, final_living):
            return (living // 10 if living > 1000 else 0), {}

    callback = pll(None, every=2, start=rules.FixedStart(0.05), rate=Twice())
    fit(compiled(), callback)
    pruned = [record["pruned"] for record in callback.history]
    assert pruned[1] > 0
    assert pruned[-3:] == [0, 0, 0]
    assert callback.history[-1]["step"] < 20


def test_steps_per_execution():
    callback = pll(every=3)
    model = compiled(steps_per_execution=2)
    fit(model, callback)
    assert [record["step"] for record in callback.history] == [4, 6, 10, 12, 16, 18]
    assert all_zeros(model) == 855


def test_two_replicas_are_one_device():
    def copies(model):
        masks = [mask for w in models.stock_wrappers(model) for _, mask, _ in w.pruning_vars]
        return {replicas.digest([replicas.replica_values(m)[i] for m in masks]) for i in range(2)}

    with two_cpu_strategy().scope():
        model = compiled()
    callback, look = pll(start=rules.FixedStart(0.1)), models.EveryStep(copies)
    fit(model, callback, look)
    assert all(len(each) == 1 for each in look.seen)
    single = pll(start=rules.FixedStart(0.1))
    fit(alone := compiled(), single)
    assert [r["pruned"] for r in callback.history] == [r["pruned"] for r in single.history]
    for mine, theirs in zip(models.masks(model), models.masks(alone), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("order", [lambda a, b: (a, b), lambda a, b: (b, a)], ids=["before", "after"])
def test_masks_that_another_callback_restores_are_pruned_again(order):
    best = tf_keras.callbacks.EarlyStopping("epoch", patience=9, restore_best_weights=True)
    epochs = tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(epoch=epoch))
    model = compiled()
    with pytest.warns(UserWarning, match=r"They are pruned again to 0\.7500"):
        fit(model, epochs, *order(pll(), best))
    assert all_zeros(model) == 855


def test_errors_come_before_the_first_step():
    with pytest.raises(ValueError, match=r'hidden is not wrapped .*scope="global"\)'):
        fit(compiled(scope="layer"), pll())
    with pytest.raises(ValueError, match="without blocks"):
        fit(models.compiled(tfmot.prune_low_magnitude(small(), block_size=(2, 1), scope="global")), pll())
    with pytest.raises(ValueError, match="No layer of .* is wrapped"):
        fit(models.compiled(small()), pll())
    with pytest.raises(ValueError, match=r"every=30 of 40 steps leaves no check"):
        fit(compiled(), pll(every=30))
    with pytest.raises(ValueError, match="Did you mean sparsity=0.9"):
        pll(90)


def test_a_file_from_before_the_target_is_told_apart(tmp_path):
    fit(compiled(), pll(), tf_keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras")))
    with tfmot.scope():
        early, late = (tf_keras.models.load_model(tmp_path / f"{epoch}.keras") for epoch in (2, 3))
    with pytest.warns(UserWarning, match=r"at step 16 of OneShot\(sparsity=0.75.*from before the target was reached"):
        tfmot.strip_pruning(early)
    tfmot.strip_pruning(late)  # no warning
