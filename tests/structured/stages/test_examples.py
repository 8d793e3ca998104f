"""Arrays in an order of the epoch, and the examples that densities are measured on."""

import keras
import numpy as np
import pytest

from tfsparse.structured.stages.examples import (
    FitData,
    ShuffledArrays,
    are_arrays,
    first_examples,
    inputs_and_labels_of,
    inputs_of,
)

X, Y = np.arange(10.0)[:, None], np.arange(10)
ARGUMENTS = {"x": X, "y": Y, "sample_weight": None, "batch_size": 4, "shuffle": True}
ARGUMENTS |= {"validation_split": 0.0, "validation_data": None}


def rows(data):
    return np.concatenate([data[i][0][:, 0] for i in range(len(data))]).astype(int).tolist()


def test_the_order_depends_on_seed_and_epoch_only():
    data, again = ShuffledArrays((X, Y), 4, seed=1), ShuffledArrays((X, Y), 4, seed=1)
    orders = []
    for epoch in range(3):
        data.set_epoch(epoch)
        orders.append(rows(data))
    again.set_epoch(2)
    assert rows(again) == orders[2]
    assert len({tuple(order) for order in orders}) == 3 and all(sorted(order) == list(range(10)) for order in orders)
    assert rows(ShuffledArrays((X, Y), 4, seed=2)) != orders[0]
    assert len(data) == 3 and len(data[2][0]) == 2
    assert all(np.array_equal(data[i][0][:, 0], data[i][1]) for i in range(3))  # labels go along


def test_keras_sees_each_epoch_in_its_order():
    seen = []

    class Probe(keras.layers.Layer):
        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((1,)), Probe(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    data = ShuffledArrays((X, Y), 10, seed=0)
    getitem = data.__getitem__

    class Set(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            data.set_epoch(epoch)
            seen.append([])

    train_step = model.train_step
    model.train_step = lambda *args: (seen[-1].extend(_first_column(args)), train_step(*args))[1]
    model.fit(data, epochs=3, callbacks=[Set()], verbose=0)
    for epoch, order in enumerate(seen):
        data.set_epoch(epoch)
        assert order == getitem(0)[0][:, 0].astype(int).tolist()


def _first_column(args):
    batch = args[-1]  # on JAX the state comes before it
    return np.asarray(batch[0])[:, 0].astype(int).tolist()


def test_validation_is_split_off_as_keras_does():
    arguments = FitData(ARGUMENTS | {"validation_split": 0.25}, seed=0).for_stage(0)
    assert sorted(rows(arguments["x"])) == list(range(7)) and arguments["shuffle"] is False and arguments["y"] is None
    assert arguments["validation_data"][1].tolist() == [7, 8, 9] and arguments["validation_split"] == 0.0


@pytest.mark.parametrize("changes", [{"shuffle": False}, {"shuffle": "batch"}, {"steps_per_epoch": 2}])
def test_other_orders_are_left_to_keras(changes):
    arguments = FitData(ARGUMENTS | changes, seed=0).for_stage(0)
    assert arguments["x"] is X and arguments["shuffle"] == (ARGUMENTS | changes)["shuffle"]


def test_a_function_is_called_once_per_stage():
    epochs = []
    data = FitData(ARGUMENTS | {"x": lambda epoch: epochs.append(epoch) or [X[epoch:]], "y": None}, seed=0)
    assert [data.for_stage(epoch)["x"][0][0, 0] for epoch in (2, 2, 5)] == [2, 2, 5]
    assert epochs == [2, 5]


def test_the_first_examples_of_arrays_and_of_batches():
    inputs, _ = FitData(ARGUMENTS, 0).first_examples(inputs_of, 0, 3, None)
    assert inputs[:, 0].tolist() == [0, 1, 2]  # not those of the first epoch's order
    inputs, batch_size = first_examples(ShuffledArrays((X, Y), 4, 0), 6)
    assert inputs.shape == (6, 1) and batch_size == 4
    two = {"a": X, "b": X.astype("float32")}
    inputs, batch_size = first_examples(two, 3)
    assert {k: v.shape for k, v in inputs.items()} == {"a": (3, 1), "b": (3, 1)} and batch_size == 32
    assert inputs["a"].dtype == "float32"


def test_the_first_examples_may_have_labels():
    (inputs, labels), _ = FitData(ARGUMENTS, 0).first_examples(inputs_and_labels_of, 0, 3, None)
    assert inputs[:, 0].tolist() == labels.tolist() == [0, 1, 2]
    data = ShuffledArrays((X, Y), 4, 0)
    (inputs, labels), batch_size = first_examples(data, 6, select=inputs_and_labels_of)
    assert inputs[:, 0].tolist() == labels.tolist() == rows(data)[:6] and batch_size == 4
    with pytest.raises(ValueError, match=r"no labels.*expected fit\(x, y\)"):
        FitData(ARGUMENTS | {"y": None}, 0).first_examples(inputs_and_labels_of, 0, 3, None)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
def test_the_first_examples_of_a_dataset():
    import tensorflow as tf

    inputs, batch_size = first_examples(tf.data.Dataset.from_tensor_slices((X, Y)).batch(3), 7)
    assert inputs[:, 0].tolist() == list(range(7)) and batch_size == 3
    whole, _ = first_examples(tf.data.Dataset.from_tensor_slices(X).batch(3), 70)
    assert len(whole) == 10


def test_a_generator_is_refused():
    with pytest.raises(TypeError, match=r"Pass examples .* data=x\[:5000\]"):
        first_examples(iter([(X, Y)]), 5)


def test_arrays_are_numbers_with_equal_rows():
    assert are_arrays((X, Y)) and are_arrays(({"a": X}, keras.ops.ones(10)))
    assert not are_arrays((X, Y[:5])) and not are_arrays(()) and not are_arrays((X, iter([])))
    assert not are_arrays((np.array(["a", "b"]),))
