import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import testing
from tfsparse.optimizers import recompiled
from tfsparse.testing import fixtures

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SPARSITY = 0.75


def compiled(model, optimizer="sgd", run_eagerly=True):  # a few steps take less time than to trace one
    model.compile(optimizer, LOSS, jit_compile=False, run_eagerly=run_eagerly)
    return model


def prune(sparsity=SPARSITY, schedule="one_cycle", **options):
    return tfsparse.Prune(schedule, sparsity, **options)


def with_frozen_base(**options):
    model = testing.small_model()
    freeze_base(model, True)
    return compiled(model, **options)


def freeze_base(model, frozen):
    for name in ("conv", "hidden"):
        model.get_layer(name).trainable = not frozen


def zeros(model):
    return [np.array(ops.convert_to_numpy(v)) == 0 for v in model.weights if len(v.shape) > 1]


class NothingGrows(keras.callbacks.Callback):
    """Asserts after every step that what was zero before is zero."""

    def on_train_begin(self, logs=None):
        self._before = zeros(self.model)

    def on_train_batch_end(self, batch, logs=None):
        now = zeros(self.model)
        assert all(np.all(n[b]) for n, b in zip(now, self._before, strict=True))
        self._before = now


def test_what_was_pruned_with_a_frozen_base_stays_pruned_when_the_base_is_unfrozen():
    model = fixtures.fit_compiled(with_frozen_base(), [prune()])
    head = np.sum(zeros(model)[-1])
    assert head == SPARSITY * 32
    freeze_base(model, False)
    fixtures.fit_compiled(compiled(model, "adam"), [prune(), NothingGrows()])
    assert tfsparse.report(model).sparsity == SPARSITY
    assert model.optimizer.steps_done == model.optimizer.total_steps == 12  # a schedule of its own


WAYS = ["Prune", "a compiled SparseOptimizer", "a model that the first step builds", "a loaded model"]


@pytest.mark.parametrize("start", WAYS)
def test_one_schedule_spans_two_fits_with_a_compile_between_them(start, tmp_path):
    layers = [keras.layers.Flatten(), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(4, name="head")]
    shape = [] if start == "a model that the first step builds" else [keras.Input((6, 6, 1))]
    model = keras.Sequential([*shape, *layers])
    inner = tfsparse.SparseOptimizer("sgd", "one_cycle", SPARSITY) if start == "a compiled SparseOptimizer" else "sgd"
    fixtures.fit_compiled(compiled(model, inner), [prune(total_steps=16)], epochs=2)
    assert 0 < model.optimizer.current_sparsity() < SPARSITY
    if start == "a loaded model":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    compiled(model)
    fixtures.fit_compiled(model, [prune(total_steps=16), NothingGrows()], epochs=2)
    assert model.optimizer.steps_done == 16 and model.optimizer.current_sparsity() == SPARSITY


def test_an_interrupted_schedule_goes_on_where_it_was_with_a_new_learning_rate():
    straight = compiled(testing.small_model())
    x, y = testing.small_data()
    expected = straight.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[prune()]).history["sparsity"]
    model = compiled(testing.small_model())
    with pytest.raises(fixtures.Interruption):
        fixtures.fit_compiled(model, [prune(), fixtures.interrupt(2)], epochs=4)
    compiled(model, keras.optimizers.SGD(1e-3))
    options = {"batch_size": 16, "epochs": 4, "initial_epoch": 2, "verbose": 0}
    assert model.fit(x, y, callbacks=[prune(), NothingGrows()], **options).history["sparsity"] == expected[2:]


def test_another_prune_starts_a_new_schedule_from_the_zeros():
    model = fixtures.fit_compiled(compiled(testing.small_model()), [prune(total_steps=16)], epochs=3)
    compiled(model)
    fixtures.fit_compiled(model, [prune(0.9, "linear"), NothingGrows()])
    assert model.optimizer.steps_done == model.optimizer.total_steps == 12
    assert tfsparse.report(model).sparsity == 0.9


def test_a_model_whose_weights_were_written_starts_afresh():
    model = compiled(testing.small_model())
    first = model.get_weights()
    fixtures.fit_compiled(model, [prune(total_steps=16)])
    model.set_weights(first)
    fixtures.fit_compiled(compiled(model), [prune(total_steps=16)], epochs=1)
    assert model.optimizer.steps_done == 4


def test_fixed_masks_are_found_again():
    model = testing.small_model()
    tfsparse.prune(model, 0.5)
    tfsparse.keep_zeros(compiled(model))
    fixtures.fit_compiled(model, [], epochs=1)
    fixtures.fit_compiled(compiled(model), [prune(), NothingGrows()])
    assert tfsparse.report(model).sparsity == SPARSITY


def test_what_was_pruned_once_is_where_prune_starts():
    model = testing.small_model()
    tfsparse.prune(model, 0.5)
    fixtures.fit_compiled(compiled(model), [prune(), NothingGrows()])
    assert tfsparse.report(model).sparsity == SPARSITY


def test_an_optimizer_that_compile_has_replaced_leaves_no_memory_behind():
    model = fixtures.fit_compiled(compiled(testing.small_model(), "adam"), [prune()], epochs=1)
    optimizer = weakref.ref(model.optimizer)
    compiled(model)
    gc.collect()
    assert optimizer() is None
    before, model = len(recompiled._records), None
    gc.collect()
    assert len(recompiled._records) == before - 3


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_two_replicas_go_on_alike():
    with testing.two_cpu_strategy().scope():
        model = with_frozen_base(run_eagerly=False)
    fixtures.fit_compiled(model, [prune(total_steps=16)], epochs=2)
    freeze_base(model, False)
    with testing.two_cpu_strategy().scope():
        compiled(model, run_eagerly=False)
    fixtures.fit_compiled(model, [prune(total_steps=16), NothingGrows()], epochs=2)
    assert model.optimizer.steps_done == 16 and model.optimizer.current_sparsity() == SPARSITY
