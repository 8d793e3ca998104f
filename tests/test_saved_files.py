"""Files of version 0.1 load, report the same and train on; `saved_by_0_1/make.py` says how they were made."""

import pathlib

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse import methods, tfmot
from tfsparse.optimizers import compiled_model

FILES = pathlib.Path(__file__).parent / "saved_by_0_1"
ENTRIES = 8 * 16 + 16 * 4
PRUNED = 3 * ENTRIES // 4


def needs(*names):
    """The test is about these methods."""
    return pytest.mark.skipif(not {*names} <= {*methods.names()}, reason=f"without {' and '.join(names)}")


def train(model, epochs=2, callbacks=()):
    random = np.random.default_rng(3)
    x, y = random.normal(size=(64, 8)).astype("float32"), random.integers(0, 4, 64)
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def num_zeros(model):
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    return sum(int(np.sum(kernel.numpy() == 0)) for kernel in kernels)


GSM = pytest.param("gsm", marks=needs("gsm"))


@pytest.mark.parametrize("name", ["global", "feather", "rigl", GSM, "pll", "one_cycle_rate", "step_rate"])
def test_a_pruned_model_loads_and_stays_pruned(name):
    model = keras.models.load_model(FILES / f"{name}.keras")
    assert num_zeros(model) == compiled_model.sparse_optimizer(model).num_zeros()
    assert abs(tfsparse.report(model).sparsity - 0.75) < 0.02
    before = num_zeros(model)
    assert num_zeros(train(model)) == before


def test_a_schedule_that_was_half_way_ends_at_its_target():
    model = keras.models.load_model(FILES / "half_way.keras")
    assert model.optimizer.steps_done == 8 and 0 < num_zeros(model) < PRUNED
    train(model, callbacks=[tfsparse.Prune("one_cycle", 0.75, tfsparse.Magnitude(scope="layer"), total_steps=16)])
    assert model.optimizer.steps_done == 16 and num_zeros(model) == PRUNED


def test_what_pll_has_measured_is_still_there():
    state = keras.models.load_model(FILES / "pll.keras").optimizer.extra_state
    assert list(state) == ["progress", "direction_0", "direction_1"]
    directions = np.concatenate([state[f"direction_{i}"].numpy().ravel() for i in range(2)])
    assert np.linalg.norm(directions) == pytest.approx(1, rel=1e-3)


@needs("dst")
def test_trainable_thresholds_load_and_are_removed():
    model = train(keras.models.load_model(FILES / "dst.keras"), callbacks=[tfsparse.DST(0.75)])
    assert num_zeros(tfsparse.finalize(model)) == PRUNED


def test_wrapped_models_load():
    import tf_keras

    with tfmot.scope():
        model = tf_keras.models.load_model(FILES / "tfmot.keras")
    assert num_zeros(tfmot.strip_pruning(model)) == PRUNED


@needs("dst", "gsm")
def test_thresholds_and_gsm_of_tf_keras_load():
    import tf_keras

    model = tf_keras.models.load_model(FILES / "tfmot_dst.keras")
    assert isinstance(model.optimizer, tfmot.GSM) and model.optimizer.compression == 4
    assert len(tfmot.finalize(model).weights) == 4
