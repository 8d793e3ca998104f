"""Slots of the optimizers of tf_keras."""

import numpy as np
import pytest
import tf_keras
import tf_keras_models as models

from tfsparse import tfmot
from tfsparse.tfmot import prune

VALUE = 0.25


@pytest.mark.parametrize("optimizers", [tf_keras.optimizers, tf_keras.optimizers.legacy], ids=["new", "legacy"])
@pytest.mark.parametrize("name", ["Adagrad", "Ftrl"])
def test_slots_of_pruned_weights_return_to_their_initial_value(optimizers, name):
    model = tfmot.prune_low_magnitude(models.small())
    model.compile(getattr(optimizers, name)(0.05, initial_accumulator_value=VALUE), "sparse_categorical_crossentropy")
    models.fit(model, tfmot.Prune("dsd", sparsity=0.5, total_steps=32))
    (group, *_), initial = prune.wrapped_weights(model), []
    group.empty_slots()
    pruned = group.masks[0].numpy() == 0
    assert pruned.any()
    for slot in group.slots(0):
        values = slot.variable.numpy()
        assert len(np.unique(values[pruned])) == 1 and len(np.unique(values[~pruned])) > 1
        initial.append(values[pruned][0])
    assert VALUE in initial and np.isfinite(group.weights[0].numpy()).all()
