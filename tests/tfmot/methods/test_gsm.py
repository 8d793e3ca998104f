"""PruneGSM for wrapped models: one global cut after the last step, and what it costs."""

import warnings

import numpy as np
import pytest
import tf_keras
import tf_keras_models as models

import tfsparse
from tfsparse import tfmot
from tfsparse.tfmot import GSM, PruneGSM

X, Y = models.data()
pytestmark = pytest.mark.filterwarnings("ignore:The cut will not be lossless")


def wrapped(scope="global", optimizer=None):
    model = tfmot.prune_low_magnitude(models.small(), scope=scope)
    return models.compiled(model, optimizer or GSM(0.05, 0.9, 1e-3, 5), metrics=["accuracy"])


def test_is_gsm_and_one_global_cut_after_the_last_step():
    plain = models.compiled(models.small(), GSM(0.05, 0.9, 1e-3, 5))
    models.fit(plain)
    flat = np.concatenate([np.abs(k).ravel() for k in models.kernels(plain)])
    threshold = np.sort(flat)[round(0.8 * flat.size)]
    model = wrapped()
    look = models.EveryStep(lambda m: sum(np.sum(k == 0) for k in models.kernels(m)))
    models.fit(model, PruneGSM(), look)
    for mine, theirs in zip(models.kernels(model), models.kernels(plain), strict=True):
        np.testing.assert_allclose(mine, np.where(np.abs(theirs) >= threshold, theirs, 0), atol=1e-6)
    assert look.seen == [0] * (2 * models.STEPS - 1) + [round(0.8 * flat.size)]


def test_the_cut_is_measured():
    model, dense = wrapped(), models.compiled(models.small(), GSM(0.05, 0.9, 1e-3, 5))
    history = models.fit(model, PruneGSM(data=(X, Y))).history
    models.fit(dense)
    assert history["cut_loss"] == [pytest.approx(model.evaluate(X, Y, verbose=0)[0], rel=1e-5)]
    assert history["uncut_loss"] == [pytest.approx(dense.evaluate(X, Y, verbose=0), rel=1e-5)]
    assert history["uncut_loss"] != history["cut_loss"]
    assert history["sparsity"][0] == 0 and history["sparsity"][1] == pytest.approx(0.8, abs=1e-3)


def test_is_the_keras_3_one():
    import keras

    model = wrapped()
    twin = tfmot.to_keras3(models.small())
    twin.compile(tfsparse.GSM(0.05, 0.9, 1e-3, 5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    twin.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[tfsparse.PruneGSM()])
    models.fit(model, PruneGSM())
    for mine, theirs in zip(model.trainable_weights, twin.trainable_weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.exhaustive
def test_warns_before_the_first_step():
    with pytest.warns(UserWarning, match="will not be lossless.*at least 8"):
        models.fit(wrapped(), PruneGSM(), epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        models.fit(wrapped(optimizer=GSM(0.05, 0.99, 0.2, 5)), PruneGSM(), epochs=1)


def test_errors_say_what_to_write():
    for model, message in (
        (models.compiled(models.small(), GSM(0.05)), "No layer of .* is wrapped for pruning"),
        (wrapped(optimizer=tf_keras.optimizers.SGD()), "PruneGSM got a model compiled with SGD"),
        (wrapped(scope="layer"), 'scope="global"'),
    ):
        with pytest.raises(ValueError, match=message):
            models.fit(model, PruneGSM())
