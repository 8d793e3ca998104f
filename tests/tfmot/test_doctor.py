"""A model that TFMOT really stripped within an epoch is recognised; ours, stripped there, is simply sparse."""

import tensorflow_model_optimization as tfmot
import tf_keras
import tf_keras_models as models

import tfsparse
import tfsparse.tfmot

stock = tfmot.sparsity.keras


class Interrupt(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            raise KeyboardInterrupt


def stripped(wrap, callback, strip):
    model = models.compiled(wrap(models.small(), stock.ConstantSparsity(0.8, 0, frequency=1)))
    try:
        models.fit(model, callback(), Interrupt())
    except KeyboardInterrupt:
        return tfsparse.tfmot.to_keras3(strip(model))


def test_a_model_stripped_by_tfmot_is_nearly_sparse():
    diagnosis = tfsparse.doctor(
        stripped(stock.prune_low_magnitude, stock.UpdatePruningStep, stock.strip_pruning), measure=False
    )
    (finding,) = [f for f in diagnosis.findings if f.startswith("Nearly sparse")]
    assert "80% of the entries of hidden/kernel" in finding or "80% of the entries of conv/kernel" in finding
    assert all(row.sparsity < 0.5 for row in diagnosis.rows)


def test_a_model_stripped_by_tfsparse_is_sparse():
    ours = tfsparse.tfmot
    diagnosis = tfsparse.doctor(stripped(ours.prune_low_magnitude, ours.Prune, ours.strip_pruning), measure=False)
    assert not any(finding.startswith("Nearly sparse") for finding in diagnosis.findings)
    assert all(abs(row.sparsity - 0.8) < 0.01 for row in diagnosis.rows)
