import re

import keras
import numpy as np
import pytest
from thoroughly import also

import tfsparse
from tfsparse import DST, testing
from tfsparse.experiments.zoo import data, models
from tfsparse.optimizers import masked_layer


def digits(optimizer, sparsity, epochs=10, **options):
    """A dense network on scikit-learn's digits; 44 steps per epoch."""
    keras.utils.set_random_seed(0)
    digits = data.load("digits", batch_size=32, epochs=epochs)
    model = tfsparse.dst(models.build("mlp", digits.input_shape, 10))
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    callback = DST(sparsity, data=digits.validation, **options)
    lengths = {"epochs": epochs, "steps_per_epoch": digits.steps_per_epoch}
    history = model.fit(digits.train, **lengths, shuffle=False, verbose=0, callbacks=[callback])
    return model, history.history


@pytest.mark.parametrize("sparsity", [0.95, *also([0.8])])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_alpha_leads_to_within_half_a_point_and_the_cut_is_exact(optimizer, sparsity):
    optimizers = {"sgd": keras.optimizers.SGD(0.02, momentum=0.9), "adam": keras.optimizers.Adam(1e-3)}
    model, logs = digits(optimizers[optimizer], sparsity)
    assert abs(logs["uncut_sparsity"][-1] - sparsity) < 0.005
    size = sum(row.size for row in tfsparse.report(model).rows)
    assert logs["sparsity"][-1] == 1 - (size - round(sparsity * size)) / size
    assert len(logs["uncut_accuracy"]) == len(logs["cut_accuracy"]) == 1
    assert logs["cut_accuracy"][-1] > 0.9


def test_a_layer_may_keep_less_than_its_floor_at_a_high_target():
    model, logs = digits(keras.optimizers.SGD(0.02, momentum=0.9), 0.99, epochs=20)
    floors = [t.constraint.floor for layer in masked_layer.masked_layers(model) for t in layer.thresholds]
    np.testing.assert_allclose(floors, 0.001)
    assert np.diff(logs["sparsity"][:-1]).min() > -0.05  # thresholds that are reset lose more than that
    assert abs(logs["uncut_sparsity"][-1] - 0.99) < 0.005


def test_lower_floors_compile_the_training_step_anew():
    x, y = testing.small_data()
    model = tfsparse.dst(testing.small_model(), 0.01)
    model.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=1, verbose=0)
    compiled = model.train_function
    model.fit(x, y, epochs=1, verbose=0, callbacks=[DST(None)])
    assert model.train_function is compiled
    model.fit(x, y, epochs=1, verbose=0, callbacks=[DST(0.5)])
    assert model.train_function is not compiled


def test_without_a_target_alpha_stays_and_nothing_is_cut():
    model, logs = digits("sgd", None, epochs=2)
    np.testing.assert_allclose(logs["alpha"], [5e-4] * 2)
    assert set(logs) == {"accuracy", "loss", "sparsity", "alpha"}
    assert logs["sparsity"][-1] == tfsparse.report(model).sparsity


def test_a_second_fit_starts_from_the_sparsity_that_is_there():
    x, y = testing.small_data()
    model = tfsparse.dst(testing.small_model(), 0.01)
    model.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0, callbacks=[DST(0.5)])
    history = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0, callbacks=[DST(0.5)])
    assert min(history.history["sparsity"]) > 0.4


def test_early_stopping_still_cuts():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    x, y = testing.small_data()
    model = tfsparse.dst(testing.small_model())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=5, verbose=0, callbacks=[DST(0.75), Stop()])
    assert tfsparse.report(model).sparsity == 0.75


def test_the_sparsity_logger_counts_thresholded_kernels(tmp_path):
    x, y = testing.small_data()
    model = tfsparse.dst(testing.small_model(), 0.05)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logger = tfsparse.SparsityLogger(tmp_path)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[logger])
    rows = {row.weight: row.sparsity for row in tfsparse.report(model).rows}
    assert logger.history[-1] == pytest.approx(rows)
    assert list(tmp_path.glob("events*"))


def test_wrong_arguments_are_refused_before_the_first_step():
    x, y = testing.small_data()
    model = testing.small_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"write model = tfsparse.dst\(model\) and compile it"):
        model.fit(x, y, shuffle=False, verbose=0, callbacks=[DST(0.5)])
    wrapped = tfsparse.dst(model)
    wrapped.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="length is unknown"):
        wrapped.fit(((x, y) for _ in range(3)), shuffle=False, verbose=0, callbacks=[DST(0.5)])
    with pytest.raises(ValueError, match="Did you mean sparsity=0.9"):
        DST(90)
    with pytest.raises(ValueError, match="for example updates=400"):
        DST(0.5, updates=0)
    assert not masked_layer.masked_layers(model)


@pytest.mark.parametrize("sparsity", [0.5, None])
def test_a_file_from_before_the_cut_is_told_apart(sparsity, tmp_path):
    x, y = testing.small_data()
    model = tfsparse.dst(testing.small_model(), 0.01)
    model.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    files = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[DST(sparsity), files])
    assert tfsparse.report(keras.models.load_model(tmp_path / "3.keras")).unfinished is None
    model = keras.models.load_model(tmp_path / "1.keras")
    if sparsity is None:
        assert tfsparse.report(model).unfinished is None
        return
    sentence = r"'sequential\w*' is from before the target was reached: 0\.\d+ .*, the target is 0.5, to which DST"
    assert re.match(sentence, tfsparse.report(model).unfinished)
    assert any(re.match(sentence, finding) for finding in tfsparse.doctor(model, measure=False).findings)
    with pytest.warns(UserWarning, match=f"^{sentence}.* It is exported as it is"):
        tfsparse.export(model, tmp_path / "out")
