import keras
import numpy as np
import pytest
from keras import ops
from summaries import scalars

import tfsparse
from tfsparse import Magnitude, OneShot, Prune, SparseOptimizer, SparsityLogger, testing


def logged(tmp_path, pruner):
    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    logger = SparsityLogger(tmp_path)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[Prune(sparsity=0.5, pruner=pruner), logger])
    return model, logger, scalars(tmp_path)


def test_every_pruned_weight_has_its_target_and_its_actual_sparsity(tmp_path):
    model, logger, found = logged(tmp_path, Magnitude(scope="layer"))
    assert len(logger.history) == 3
    for variable in model.optimizer.pruned_variables:
        actual = np.mean(ops.convert_to_numpy(variable) == 0)
        assert logger.history[-1][variable.path] == pytest.approx(actual)
        assert found[f"sparsity/{variable.path}", 2] == pytest.approx(actual, abs=1e-6)
        assert found[f"sparsity_target/{variable.path}", 2] == pytest.approx(0.5, abs=0.01)


def test_flops_are_those_of_the_report(tmp_path):
    model, _, found = logged(tmp_path, Magnitude())
    rows = tfsparse.report(model).rows
    assert [found[f"effective_flops/{row.weight}", 2] for row in rows] == [row.effective_flops for row in rows]
    assert all(found[f"effective_flops/{row.weight}", 0] > row.effective_flops for row in rows)


class Replacing(keras.callbacks.Callback):
    """Repeats pattern e over the output channels of every mask at the end of epoch e, so that one can count by hand."""

    def __init__(self, *patterns):
        super().__init__()
        self.patterns = patterns

    def on_epoch_end(self, epoch, logs=None):
        for mask in self.model.optimizer.masks:
            channels = np.tile(np.array(self.patterns[epoch], "float32"), mask.shape[-1] // 2)
            mask.assign(np.broadcast_to(channels, mask.shape))


def small_fit(epochs, callbacks, optimizer="adam", initial_epoch=0, model=None):
    model = model or testing.small_model()
    if optimizer:
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    history = model.fit(
        x, y, batch_size=16, epochs=epochs, initial_epoch=initial_epoch, verbose=0, shuffle=False, callbacks=callbacks
    )
    return model, history.history


def test_mask_change_rate_is_the_fraction_of_mask_entries_that_changed(tmp_path):
    """Of each two channels: both stay; the second is pruned; the two exchange their masks."""
    optimizer = SparseOptimizer("adam", schedule=OneShot(start=1.0), sparsity=0.5, total_steps=10_000)
    patterns = Replacing((1, 1), (1, 0), (0, 1))
    model, history = small_fit(3, [patterns, SparsityLogger(tmp_path)], optimizer)
    assert history["mask_change_rate"] == [0, 0.5, 1]
    found = scalars(tmp_path)
    assert [found[f"mask_change_rate/{v.path}", 1] for v in model.optimizer.pruned_variables] == [0.5, 0.5, 0.5]


def test_mask_change_rate_of_a_resumed_fit_starts_from_its_first_masks():
    """Straight and resumed runs log the same numbers."""
    straight, resumed = [], []
    for epochs, found in (((4,), straight), ((2, 4), resumed)):
        keras.utils.set_random_seed(0)
        model, done = None, 0
        prune = Prune("polynomial", 0.75, total_steps=4 * 4)
        for end in epochs:
            model, history = small_fit(end, [prune, SparsityLogger()], None if model else "adam", done, model)
            found += history["mask_change_rate"]
            done = end
    assert straight == resumed and len(straight) == 4 and max(straight) > 0


def test_a_dense_model_has_no_mask_change_rate():
    _, history = small_fit(1, [SparsityLogger()])
    assert "mask_change_rate" not in history


def test_a_global_threshold_has_no_target_per_weight(tmp_path):
    _, _, found = logged(tmp_path, Magnitude(scope="global"))
    assert found
    assert not any(tag.startswith("sparsity_target") for tag, _ in found)


def test_layers_of_one_name_have_lines_of_their_own(tmp_path):
    """In the history and on TensorBoard."""

    def encoder(name):
        encoded = keras.Input((36,))
        return keras.Model(encoded, keras.layers.Dense(8, name="a")(encoded), name=name)

    inputs = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.add([encoder("left")(flat), encoder("right")(flat)]))
    logger = SparsityLogger(tmp_path)
    prune = Prune("one_cycle", 0.5, Magnitude(scope="layer"), sparsities=[(model.get_layer("right"), 0.25)])
    small_fit(2, [prune, logger], model=model)
    assert logger.history[-1] == {"a/kernel": 0.5, "a/kernel#2": 0.25}
    found = scalars(tmp_path)
    for scalar in ("sparsity", "sparsity_target"):
        assert [found[f"{scalar}/{name}", 1] for name in ("a/kernel", "a/kernel#2")] == [0.5, 0.25]
    assert found["effective_flops/a/kernel", 1] < found["effective_flops/a/kernel#2", 1]
