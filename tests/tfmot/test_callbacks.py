import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import tf_keras_models as models
from summaries import scalars
from thoroughly import also

from tfsparse import schedules as fractions
from tfsparse import tfmot

layers, stock = models.layers, models.stock
COUNTS = [230, 1152, 48]  # zeros at a sparsity of 0.8


def _model(schedule=None, scope="layer"):
    return models.compiled(tfmot.prune_low_magnitude(models.small(), schedule, scope=scope))


def _zeros(model):
    return [int(np.sum(k == 0)) for k in models.kernels(model)]


def test_lays_the_schedule_over_this_fit():
    model = _model()
    history = models.fit(model, tfmot.Prune("linear", sparsity=0.8), epochs=4)
    np.testing.assert_allclose(history.history["sparsity"], [0.2, 0.4, 0.6, 0.8], atol=1e-3)
    assert _zeros(model) == COUNTS
    schedule = models.stock_wrappers(model)[0].pruning_schedule
    assert (schedule.begin_step, schedule.end_step) == (0, 32)


def test_one_cycle_is_the_default_and_update_pruning_step_does_no_harm():
    results = []
    for callbacks in ([], [stock.UpdatePruningStep()]):
        model = _model()
        models.fit(model, tfmot.Prune(sparsity=0.8), *callbacks)
        results.append(models.masks(model))
    assert models.stock_wrappers(model)[0].pruning_schedule == tfmot.OneCycle(0.8, end_step=16)
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("schedule", "options", "at_target", "line"),
    [
        (None, {"schedule": fractions.OneCycle(end=0.5), "sparsity": 0.8}, [0, 1, 1], "from epoch 2 of 3 on, every"),
        (None, {"sparsity": 0.8}, [0, 0, 1], r"only epoch 3 of 3 ends .* write OneCycle\(end=0.5\)"),
        (lambda: stock.ConstantSparsity(0.8, 12, frequency=1), {}, [0, 1, 1], "from epoch 2 of 3 on, every"),
        (lambda: stock.PolynomialDecay(0, 0.8, 0, 20), {}, [0, 0, 1], "only epoch 3 of 3 ends at the target.\n$"),
        (lambda: tfmot.OneCycle(0.8, 32), {"total_steps": 32}, [0, 0, 0], "no epoch of this fit ends at the target"),
    ],
    ids=["own schedule", "to the end", "constant", "polynomial", "several fits"],
)
def test_epochs_at_the_target_are_said_and_are_in_the_history(schedule, options, at_target, line, capsys):
    history = models.fit(_model(schedule and schedule()), tfmot.Prune(**options, verbose=1), epochs=3).history
    assert history["at_target"] == at_target
    assert re.match(f"Prune: {line}", capsys.readouterr().out)


def test_keeps_the_schedules_that_the_wrappers_have():
    model = _model(stock.ConstantSparsity(0.5, 3))
    models.fit(model, tfmot.Prune())
    assert models.sparsities(model)[1] == 0.5


def test_several_fits_make_one_schedule():
    straight, parts = _model(), _model()
    models.fit(straight, tfmot.Prune("linear", sparsity=0.8), epochs=4)
    callback = tfmot.Prune("linear", sparsity=0.8, total_steps=32)
    models.fit(parts, callback, epochs=2)
    assert models.sparsities(parts)[1] == 0.4
    models.fit(parts, callback, epochs=2)
    for mine, theirs in zip(parts.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_after_the_end_an_equal_prune_holds_and_another_goes_on():
    model = _model()
    models.fit(model, tfmot.Prune("linear", sparsity=0.5))
    held = models.masks(model)
    models.fit(model, tfmot.Prune("linear", sparsity=0.5))
    for mine, theirs in zip(models.masks(model), held, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    look = models.EveryStep(lambda m: models.sparsities(m)[1])
    models.fit(model, tfmot.Prune("linear", sparsity=0.8), look)
    np.testing.assert_allclose(look.seen, np.linspace(0.5, 0.8, 17)[1:], atol=1e-3)


class Stop(tf_keras.callbacks.Callback):
    """Ctrl-C after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("position", [0, *also([2])])
@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_backup_and_restore_gives_the_straight_run(tmp_path, position, save_freq):
    """A killed run, started again in a new model, wherever the callback stands in the list."""

    def run(model, *others):
        callbacks = [tf_keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=save_freq), *others]
        callbacks.insert(position, tfmot.Prune("one_cycle", sparsity=0.8))
        models.fit(model, *callbacks, epochs=3)

    straight = _model()
    models.fit(straight, tfmot.Prune("one_cycle", sparsity=0.8), epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run(_model(), Stop(13))
    resumed = _model()
    look = models.EveryStep(lambda m: 0)
    run(resumed, look)
    assert len(look.seen) == (16 if save_freq == "epoch" else 12)
    assert _zeros(resumed) == COUNTS
    assert int(models.stock_wrappers(resumed)[0].pruning_step) == 24
    if save_freq == "epoch":  # within an epoch tf_keras goes on with the epoch's first batches, wrapped or not
        for mine, theirs in zip(resumed.get_weights(), straight.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_ends_early_with_a_cut_and_a_warning():
    model = _model()
    with pytest.warns(UserWarning, match=r"Training ended at step 8 of 24, .*: cut to the target 0\.8 now"):
        models.fit(model, tfmot.Prune("linear", sparsity=0.8), StopAt(0), epochs=3)
    assert _zeros(model) == COUNTS


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("best_is_last", [False, True])
def test_weights_and_masks_that_another_callback_restores_are_pruned_again(best_is_last, early):
    """EarlyStopping brings back the best epoch, with its masks: the first one here, in which the loss is lowest."""
    model = _model()
    best = tf_keras.callbacks.EarlyStopping("epoch", patience=1 if early else 9, restore_best_weights=True)
    epochs = tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(epoch=epoch))
    with pytest.warns(UserWarning) as found:
        callbacks = [best, tfmot.Prune("linear", sparsity=0.8)]
        models.fit(model, epochs, *callbacks[:: -1 if best_is_last else 1], epochs=3)
    cut, again = "Training ended at step 16 of 24, ", "Another callback has written the weights"
    causes = ([cut] if early else []) + ([again] if best_is_last or not early else [])
    assert [str(warning.message)[: len(cause)] for warning, cause in zip(found, causes, strict=True)] == causes
    assert _zeros(model) == COUNTS


def test_two_callbacks_that_prune_one_model_are_refused():
    with pytest.raises(ValueError, match="Two callbacks prune this model: Prune and Prune"):
        models.fit(_model(), tfmot.Prune(sparsity=0.5), tfmot.Prune(sparsity=0.8))
    both = [tfmot.Prune(sparsity=0.5), tfmot.PLL(models.data(), sparsity=0.8)]
    with pytest.raises(ValueError, match="Two callbacks prune this model: Prune and PLL"):
        models.fit(_model(scope="global"), *both)


def test_evaluation_prunes_nothing():
    model, (x, y) = _model(), models.data()
    model.evaluate(x, y, verbose=0, callbacks=[tfmot.Prune(sparsity=0.8)])
    model.predict(x, verbose=0, callbacks=[tfmot.Prune(sparsity=0.5)])
    assert models.sparsities(model) == [0, 0, 0]
    models.fit(model, tfmot.Prune(sparsity=0.8))
    assert _zeros(model) == COUNTS


class Teaching(tf_keras.Model):
    """Two wrapped networks, of which only the second one is trained, by an optimizer of its own or by hand."""

    def __init__(self, optimizer):
        super().__init__()
        self.teacher, self.student = _model(), _model()
        self.own_optimizer = optimizer

    def call(self, x, training=None):
        return self.student(x, training=training)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            goal = self.teacher(data[0], training=False)
            loss = tf.reduce_mean((self.student(data[0], training=True) - goal) ** 2)
        weights = self.student.trainable_weights
        gradients = tape.gradient(loss, weights)
        if self.own_optimizer:
            self.own_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        else:
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.assign_sub(0.01 * gradient)
        return {"loss": loss}


def _teach(optimizer, **options):
    model, (x, y) = Teaching(optimizer), models.data()
    model.compile()
    model(x[:1])
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[tfmot.Prune("linear", sparsity=0.8)])
    return model


def test_what_no_optimizer_trains_is_named_and_left_alone():
    with pytest.warns(UserWarning, match="No optimizer trains prune_low_magnitude_conv, .*hidden, .*logits: they are"):
        model = _teach(tf_keras.optimizers.SGD(0.01))
    assert _zeros(model.student) == COUNTS
    assert _zeros(model.teacher) == [0, 0, 0]


def test_weights_that_are_trained_by_hand_are_not_cut():
    with pytest.raises(ValueError, match=r"No optimizer of tf_keras has made a step .* in train_step of Teaching"):
        _teach(None)


@pytest.mark.parametrize(
    ("scale", "zeros", "message"),
    [
        (2.0**26, COUNTS, r"cut to the target 0.8 .*train longer: \d+ of the steps were skipped"),
        (2.0**127, [14, 72, 3], "No optimizer step was made, .* float16 loss scaling skipped all steps"),
    ],
)
def test_steps_that_loss_scaling_skipped_are_named(scale, zeros, message):
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(tf_keras.optimizers.SGD(0.01), initial_scale=scale)
        model = models.compiled(tfmot.prune_low_magnitude(models.small(), scope="layer"), optimizer)
        with pytest.warns(UserWarning, match=message):
            models.fit(model, tfmot.Prune("linear", sparsity=0.8))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert _zeros(model) == zeros


def test_a_schedule_of_the_wrappers_may_span_several_fits():
    model = _model(tfmot.OneCycle(0.8, end_step=16))
    with pytest.raises(ValueError, match=r"spread it over several fits: tfsparse.tfmot.Prune\(total_steps=16\)"):
        models.fit(model, tfmot.Prune(), epochs=1)
    for _ in range(2):
        models.fit(model, tfmot.Prune(total_steps=16), epochs=1)
    assert _zeros(model) == COUNTS


def test_a_training_loop_as_tfmot_documents_it():
    model, (x, y) = _model(tfmot.OneCycle(0.8, end_step=4)), models.data()
    prune = tfmot.Prune()
    prune.set_model(model)
    prune.on_train_begin()
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for _ in range(2):
        for batch in range(2):
            prune.on_train_batch_begin(batch=batch)
            with tf.GradientTape() as tape:
                value = loss(y, model(x, training=True))
            weights = model.trainable_variables
            model.optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        prune.on_epoch_end(batch=batch)
    assert _zeros(model) == COUNTS


def test_when_nothing_can_be_pruned_the_cause_is_named():
    model = _model()
    for layer in model.layers:
        layer.trainable = False
    frozen = models.compiled(model)
    depthwise = tf_keras.layers.DepthwiseConv2D(3)
    inputs = tf_keras.Input((8, 8, 1))
    outputs = tf_keras.layers.Flatten()(tfmot.PruneLowMagnitude(depthwise)(inputs))
    kernels = tf_keras.Model(inputs, tf_keras.layers.Dense(4)(outputs))
    unbuilt = tf_keras.Sequential([tfmot.prune_low_magnitude(tf_keras.layers.Dense(4))], name="unbuilt")
    import keras

    keras3 = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    for bad, message in (
        (frozen, "is frozen, and so are all other wrapped layers with kernels"),
        (kernels, "has no kernel of rank >= 2. Give your own layer a method get_prunable_weights"),
        (unbuilt, r"has no weights yet, because 'unbuilt' was never called: write model\(x\[:1\]\) before fit"),
        (keras3, "Keras 3 models need no wrappers"),
    ):
        with pytest.raises(ValueError, match=message):
            tfmot.Prune(sparsity=0.8).set_model(bad)
    for callback in (tfmot.PruneGSM(), tfmot.PLL(models.data(), sparsity=0.8)):
        with pytest.raises(ValueError, match="Keras 3 models need no wrappers"):
            callback.set_model(keras3)


class StopAt(tf_keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch >= self.epoch


def test_averages_of_weights_are_masked():
    optimizer = tf_keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
    model = models.compiled(tfmot.prune_low_magnitude(models.small(), scope="layer"), optimizer)
    models.fit(model, tfmot.Prune(sparsity=0.8))
    assert _zeros(model) == COUNTS


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_that_return_have_empty_slots(legacy):
    """With DSD masks grow again; the momentum that gathered in a pruned weight must not move it when it does."""
    make = tf_keras.optimizers.legacy.SGD if legacy else tf_keras.optimizers.SGD
    model = models.compiled(tfmot.prune_low_magnitude(models.small(), scope="layer"), make(0.05, momentum=0.9))
    models.fit(model, tfmot.Prune("dsd", sparsity=0.8, total_steps=32))
    wrapper = models.stock_wrappers(model)[1]
    weight, mask, _ = wrapper.pruning_vars[0]
    slot = model.optimizer.get_slot(weight, "momentum") if legacy else model.optimizer.momentums[2]
    pruned = mask.numpy() == 0
    assert pruned.mean() == 0.8
    assert np.any(slot.numpy()[pruned])
    wrapper.pruning_obj.prune_now(0.1)
    assert np.mean(mask.numpy() == 0) == pytest.approx(0.1, abs=1e-3)
    assert not np.any(slot.numpy()[pruned])
    assert np.any(slot.numpy()[~pruned])


def test_mirrored_replicas_agree_and_are_what_one_device_gives():
    from tfsparse.backend import replicas
    from tfsparse.testing import two_cpu_strategy

    for scope in ("layer", "global"):
        single = _model(scope=scope)
        alone = models.EveryStep(lambda m: replicas.digest(models.masks(m)))
        models.fit(single, tfmot.Prune(sparsity=0.8), alone)
        with two_cpu_strategy().scope():
            mirrored = _model(scope=scope)
        together = models.EveryStep(lambda m: [replicas.digest(_replica_masks(m, i)) for i in range(2)])
        models.fit(mirrored, tfmot.Prune(sparsity=0.8), together)
        assert together.seen == [[digest, digest] for digest in alone.seen]
        assert len(set(alone.seen)) > 10
        stripped = tfmot.strip_pruning(mirrored)  # nobody is in the strategy's scope now
        for weight in stripped.trainable_weights:
            first, second = replicas.replica_values(weight)
            np.testing.assert_array_equal(first, second)


class Flip(tf_keras.callbacks.Callback):
    """After step 10 an entry of the second layer's mask is another one on the second replica."""

    def on_train_batch_end(self, batch, logs=None):
        _, mask, _ = models.stock_wrappers(self.model)[1].pruning_vars[0]
        self.done = int(models.stock_wrappers(self.model)[1].pruning_step.numpy())
        if self.done == 10:
            copy = mask.values[1]
            value = copy.numpy()
            value.flat[np.flatnonzero(value)[0]] = 0
            copy.assign(value)


def _mirrored_model():
    from tfsparse.testing import two_cpu_strategy

    with two_cpu_strategy().scope():
        return _model()


def test_a_flipped_entry_on_a_replica_stops_training_before_the_next_update():
    fault = Flip()
    with pytest.raises(RuntimeError, match="^The masks of hidden/kernel:0 on replica 1 of 2 differ"):
        models.fit(_mirrored_model(), tfmot.Prune(sparsity=0.8), fault)
    assert fault.done == 10


def test_a_flipped_entry_on_a_replica_is_repaired_with_its_weight():
    from tfsparse.backend import replicas
    from tfsparse.consistency import mask_store

    model, prune = _mirrored_model(), tfmot.Prune(sparsity=0.8, on_divergence="repair")
    with pytest.warns(UserWarning, match="^The masks of hidden/kernel:0 on replica 1 of 2 differ"):
        history = models.fit(model, prune, Flip()).history
    assert _zeros(model) == COUNTS
    for variable in model.weights:
        first, second = replicas.replica_values(variable)
        np.testing.assert_array_equal(first, second)
    looks, entries = 16 + 2, 1440  # every step updates
    assert prune.sync_stats == mask_store.SyncStats(looks, looks * 3 * 4 + entries // 8 + mask_store.HEADER.size)
    assert history["mask_bytes"] == [9 * 3 * 4, prune.sync_stats.bytes]


def test_what_to_do_with_a_fault_must_be_known():
    with pytest.raises(ValueError, match="on_divergence='ignore': expected one of"):
        tfmot.Prune(on_divergence="ignore")


def _replica_masks(model, replica):
    from tfsparse.backend import replicas

    pruned = [v for w in models.stock_wrappers(model) for v in w.pruning_vars]
    return [replicas.replica_values(mask)[replica] for _, mask, _ in pruned]


def test_errors_come_before_the_first_step():
    model = _model(stock.PolynomialDecay(0, 0.8, 0, 100))
    look = models.EveryStep(lambda m: 0)
    with pytest.raises(ValueError, match=r"PolynomialDecay\(.* ends at step 100 and this fit at step 16, short"):
        models.fit(model, tfmot.Prune(), look)
    with pytest.raises(ValueError, match=r"ConstantSparsity\(.*never fires in steps 1 to 16"):
        models.fit(_model(stock.ConstantSparsity(0.8, 50)), tfmot.Prune(), look)
    with pytest.raises(ValueError, match="No layer of .* is wrapped"):
        models.fit(models.compiled(models.small()), tfmot.Prune(sparsity=0.8), look)
    with pytest.raises(ValueError, match="wrapped by TFMOT's own"):
        models.fit(models.compiled(stock.prune_low_magnitude(models.small())), tfmot.Prune(sparsity=0.8), look)
    with pytest.raises(ValueError, match=r"dataset's length is unknown.*total_steps="):
        x, y = models.data()
        endless = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda *_: True).batch(8)
        _model().fit(endless, verbose=0, callbacks=[tfmot.Prune(sparsity=0.8), look])
    assert look.seen == []
    with pytest.raises(ValueError, match=r"Prune\('linear', sparsity=0\.9\)"):
        tfmot.Prune("linear")
    with pytest.raises(ValueError, match=r"Did you mean sparsity=0\.8"):
        tfmot.Prune(sparsity=80)


def test_global_wrappers_of_a_loaded_file_find_each_other(tmp_path):
    straight, model = _model(scope="global"), _model(scope="global")
    for m, epochs in ((straight, 2), (model, 1)):
        models.fit(m, tfmot.Prune("linear", sparsity=0.8, total_steps=16), epochs=epochs)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    models.fit(loaded, tfmot.Prune("linear", sparsity=0.8, total_steps=16), epochs=1)
    for mine, theirs in zip(loaded.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_summaries_of_tfmot_see_masks_and_thresholds(tmp_path):
    model = _model()
    models.fit(model, stock.PruningSummaries(str(tmp_path)), tfmot.Prune("linear", sparsity=0.8), epochs=3)
    values = {tag: value for (tag, _), value in scalars(tmp_path / "metrics").items()}
    (sparsity,) = (v for tag, v in values.items() if "hidden/mask" in tag)
    (threshold,) = (v for tag, v in values.items() if "hidden/threshold" in tag)
    assert sparsity == pytest.approx(0.8 * 16 / 24, abs=1e-3)  # at the beginning of the last epoch
    assert 0 < threshold < 1
