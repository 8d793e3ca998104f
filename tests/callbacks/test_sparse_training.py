"""What Prune, PLL and PruneGSM have in common: which steps count, who else writes weights, and who else prunes."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from thoroughly import also

import tfsparse
from tfsparse import DST, PLL, Prune, PruneGSM, testing
from tfsparse.optimizers import compiled_model

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="train_step is TensorFlow's")
WRITTEN = r"Another callback has written the weights .* pruned again to .* write AtTarget\(EarlyStopping"


def compiled(optimizer="adam", model=None):
    keras.utils.set_random_seed(0)
    model = model or testing.small_model()
    model.compile(optimizer, LOSS)
    return model


def fit(model, *callbacks, epochs=4, **options):
    x, y = testing.small_data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks), **options)


def zero_fraction(model):
    return tfsparse.report(model).sparsity


class BestAtSecondEpoch(keras.callbacks.EarlyStopping):
    """Keras's callback, with a metric that is best in the second epoch."""

    def __init__(self, patience):
        super().__init__("distance", patience=patience, restore_best_weights=True, mode="min")

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"distance": abs(epoch - 1)})


# ---- callbacks that write weights -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Training ended at step 12 of 16")
@pytest.mark.parametrize("patience", [1, 10], ids=["stops early", "full length"])
def test_restored_weights_are_pruned_to_the_target_in_any_order(patience):
    weights = []
    for order in (lambda callbacks: callbacks, reversed):
        model = compiled()
        with pytest.warns(UserWarning, match=WRITTEN):
            fit(model, *order([Prune(sparsity=0.75), BestAtSecondEpoch(patience)]))
        assert zero_fraction(model) == model.optimizer.current_sparsity() == pytest.approx(0.75, abs=0.005)
        assert not compiled_model.broken_masks(model)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_survives_is_the_largest_of_the_restored_weights():
    """Not what the masks of the last epoch leave of them."""
    model, epochs = compiled(), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(model.get_weights()))
    with pytest.warns(UserWarning, match=WRITTEN):
        fit(model, Prune("one_cycle", 0.75, tfsparse.Magnitude(scope="layer")), keep, BestAtSecondEpoch(10))
    for restored, now in zip(epochs[1], model.get_weights(), strict=True):
        if restored.ndim > 1:
            kept = np.abs(restored) > np.sort(np.abs(restored).ravel())[round(0.75 * restored.size) - 1]
            np.testing.assert_array_equal(now, restored * kept)


def test_an_epoch_that_had_reached_the_target_is_restored_as_it_was():
    """Without a warning, also with other masks than the last epoch has: RigL exchanges weights in every epoch."""
    model, epochs = compiled(), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(model.get_weights()))
    fit(model, Prune(tfsparse.Constant(updates=8), 0.75, tfsparse.RigL(end=1.0)), keep, BestAtSecondEpoch(10))
    for restored, now in zip(epochs[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, restored)
    assert model.optimizer.current_sparsity() == pytest.approx(0.75, abs=0.005)


def test_dense_copies_start_from_restored_weights():
    """With a straight-through pruner a further fit trains on in the copies."""
    model, epochs = compiled(keras.optimizers.SGD(0.1)), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(model.get_weights()))
    fit(model, Prune("constant", 0.75, "feather"), keep, BestAtSecondEpoch(10))
    for restored, now in zip(epochs[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, restored)
    model.optimizer.learning_rate = 0.0
    fit(model, epochs=1)
    for restored, now in zip(epochs[1], model.get_weights(), strict=True):
        np.testing.assert_allclose(now, restored, rtol=1e-6)


class Writer(keras.callbacks.Callback):
    """Writes dense weights at the end of training."""

    def on_train_end(self, logs=None):
        self.model.set_weights([w + 0.01 for w in self.model.get_weights()])


def with_ema():
    return keras.optimizers.SGD(0.1, use_ema=True)


OTHERS = {
    "stop": lambda path: BestAtSecondEpoch(10),
    "checkpoint": lambda path: keras.callbacks.ModelCheckpoint(path / "{epoch}.keras"),
    "backup": lambda path: keras.callbacks.BackupAndRestore(path / "backup"),
    "averages": lambda path: keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
    "plateau": lambda path: keras.callbacks.ReduceLROnPlateau("loss", patience=1),
}
ORDERS = [("prune", *OTHERS), (*OTHERS, "prune"), ("averages", "prune", "checkpoint", "stop", "backup", "plateau")]


@pytest.mark.filterwarnings(f"ignore:{WRITTEN}")
@pytest.mark.parametrize("order", [*ORDERS, *also([*itertools.permutations(["prune", *OTHERS])][::24])], ids="-".join)
def test_with_all_of_kerass_callbacks_in_any_order(order, tmp_path):
    """Model and files are sparse: the files as the masks in them say, the model as promised."""
    model = compiled(with_ema())
    made = {name: make(tmp_path) for name, make in OTHERS.items()} | {"prune": Prune(sparsity=0.75)}
    sparsity = fit(model, *(made[name] for name in order)).history["sparsity"]
    assert zero_fraction(model) == sparsity[-1] == pytest.approx(0.75, abs=0.005)
    for epoch, expected in enumerate(sparsity, start=1):
        loaded = keras.models.load_model(tmp_path / f"{epoch}.keras")
        assert not compiled_model.broken_masks(loaded)
        assert zero_fraction(loaded) == pytest.approx(expected)


def pruned_by(name):
    x, y = testing.small_data()
    if name == "dst":
        return compiled("sgd", tfsparse.dst(testing.small_model())), DST(sparsity=0.75)
    if name == "pll":
        return compiled("sgd"), PLL((x, y), sparsity=0.75, every=2, end=1.0)
    return compiled("sgd"), PruneGSM(compression=4)


@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
@pytest.mark.parametrize("order", [lambda callbacks: callbacks, reversed], ids=["before", "after"])
@pytest.mark.parametrize("name", ["dst", "pll", "gsm"])
def test_every_method_prunes_restored_weights_again(name, order):
    model, callback = pruned_by(name)
    with pytest.warns(UserWarning, match=WRITTEN):
        fit(model, *order([callback, BestAtSecondEpoch(10)]))
    assert zero_fraction(model) == 0.75


def test_a_writer_of_ones_own_in_a_training_of_several_fits():
    """Its weights get the zeros of the step at which training stands, not those of the end."""
    model = compiled()
    with pytest.warns(UserWarning, match=WRITTEN):
        history = fit(model, Prune("polynomial", 0.75, total_steps=32), Writer()).history
    assert zero_fraction(model) == pytest.approx(history["sparsity"][-1]) and history["sparsity"][-1] < 0.74


# ---- which steps count ----------------------------------------------------------------------------------------------


class Alternating(keras.Model):
    """Trains the `network` with an optimizer of its own, as the models of a GAN are."""

    def __init__(self, network):
        super().__init__()
        self.network, self.built = network, True

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.network(data[0]) ** 2)
        weights = self.network.trainable_weights
        self.own_optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def by_another_optimizer():
    model = compiled(model=Alternating(testing.small_model()))
    model.own_optimizer = keras.optimizers.SGD(0.1)
    return model


@ON_TENSORFLOW
@pytest.mark.parametrize("callback", [lambda: Prune(sparsity=0.75), lambda: PruneGSM(compression=4)])
@pytest.mark.filterwarnings("ignore:The cut will not be lossless")
def test_a_model_that_another_optimizer_trains_is_refused_and_not_cut(callback):
    model = compiled("sgd", Alternating(testing.small_model()))
    model.own_optimizer = keras.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match="the optimizer of the model, has made no step until batch 1: train_step of"):
        fit(model, callback())
    assert not any(np.any(w == 0) for w in model.get_weights() if w.ndim > 1)


@ON_TENSORFLOW
def test_one_batch_per_epoch_is_enough_to_see_that_no_step_was_made():
    x, y = testing.small_data()
    with pytest.raises(ValueError, match="has made no step until batch 1"):
        by_another_optimizer().fit(x, y, batch_size=len(x), epochs=3, verbose=0, callbacks=[Prune()])


def test_accumulated_gradients_are_no_missing_steps():
    model = compiled(keras.optimizers.SGD(0.1, gradient_accumulation_steps=3))
    fit(model, Prune(sparsity=0.75), epochs=6)
    assert zero_fraction(model) == pytest.approx(0.75, abs=0.005)


def scaled(initial_scale):
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=initial_scale)


def test_steps_that_loss_scaling_skipped_are_counted_in_the_warning():
    """2e38 times the loss is infinite until the scale was halved some times."""
    model, (x, y) = compiled(scaled(2.0**127)), testing.small_data()
    with pytest.warns(UserWarning, match="cut to the target 0.75 now.*train longer: 11 of the steps were skipped"):
        model.fit(1e3 * x, y, batch_size=16, epochs=3, verbose=0, callbacks=[Prune("linear", sparsity=0.75)])
    assert int(model.optimizer.iterations) == 12 - 11
    assert zero_fraction(model) == pytest.approx(0.75, abs=0.005)


def test_if_loss_scaling_skipped_all_steps_nothing_is_cut():
    model = compiled(scaled(2.0**127))
    x, y = testing.small_data()
    with pytest.warns(UserWarning, match="Nothing was trained or pruned: float16 loss scaling skipped all 4 steps"):
        model.fit(1e9 * x, y, batch_size=16, verbose=0, callbacks=[Prune(sparsity=0.75)])
    assert not any(np.any(w == 0) for w in model.get_weights() if w.ndim > 1)


def test_a_fit_of_no_epoch_cuts_nothing():
    """As one that BackupAndRestore resumes after its end."""
    model = compiled()
    fit(model, Prune(sparsity=0.75), epochs=0)
    assert not any(np.any(w == 0) for w in model.get_weights() if w.ndim > 1)


# ---- who else prunes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False])
def test_two_callbacks_that_prune_one_model_are_refused(same):
    model = compiled()
    first = Prune(sparsity=0.75, exclude=["head"])
    second = Prune(sparsity=0.75 if same else 0.5, exclude=["conv", "hidden"])
    with pytest.raises(ValueError, match=r"Two callbacks prune this model: Prune and Prune.*Prune\(sparsities="):
        fit(model, first, second)
    fit(model, Prune(sparsity=0.75, exclude=["head"]))  # one of them trains, without what the others had set up
    conv, hidden, head = tfsparse.report(model).rows
    assert head.sparsity == 0 and conv.kept + hidden.kept == (conv.size + hidden.size) / 4


def test_two_methods_in_one_fit_are_refused():
    x, y = testing.small_data()
    with pytest.raises(ValueError, match="Two callbacks prune this model: PLL and Prune"):
        fit(compiled("sgd"), PLL((x, y), sparsity=0.75, every=2), Prune(sparsity=0.75))


def test_a_callback_of_an_earlier_fit_is_no_second_one():
    model, prune = compiled(), Prune(sparsity=0.75)
    fit(model, prune)
    fit(model, Prune(sparsity=0.75), epochs=1)
    fit(model, prune, epochs=1)
    assert zero_fraction(model) == pytest.approx(0.75, abs=0.005)


# ---- evaluation without training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callback", [lambda x, y: Prune(), lambda x, y: PLL((x, y), every=2), lambda x, y: PruneGSM(4)]
)
def test_evaluation_and_prediction_leave_the_optimizer_alone(callback):
    model = compiled("sgd")
    optimizer, (x, y) = model.optimizer, testing.small_data()
    model.evaluate(x, y, verbose=0, callbacks=[callback(x, y)])
    assert model.optimizer is optimizer
    model.predict(x, verbose=0, callbacks=[callback(x, y)])
    assert model.optimizer is optimizer


def test_validation_in_training_keeps_the_sparse_optimizer():
    model, (x, y) = compiled(), testing.small_data()
    fit(model, Prune(sparsity=0.75), validation_data=(x, y))
    assert zero_fraction(model) == pytest.approx(0.75, abs=0.005)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 16
