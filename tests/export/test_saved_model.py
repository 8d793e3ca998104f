import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import testing


def trained():
    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[tfsparse.Prune("constant", sparsity=0.75)])
    return model


def test_the_directory_is_whole_or_absent(tmp_path, monkeypatch):
    model = trained()

    def fail(path, **options):
        path.mkdir(parents=True)
        raise RuntimeError("disk full")

    monkeypatch.setattr(model, "export", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        tfsparse.export(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_existing_path_is_not_overwritten(tmp_path):
    with pytest.raises(ValueError, match="exists already"):
        tfsparse.export(testing.small_model(), tmp_path)


def test_weights_that_left_their_masks_do_not_leave_the_house(tmp_path):
    model = trained()
    kernel = model.get_layer("hidden").kernel
    kernel.assign(ops.ones_like(kernel))
    with pytest.raises(ValueError, match=r"apply_masks\(\)"):
        tfsparse.export(model, tmp_path / "out")
    model.optimizer.apply_masks()
    assert (tfsparse.export(model, tmp_path / "out") / "saved_model.pb").exists()
    assert np.mean(ops.convert_to_numpy(kernel) == 0) == 0.75
