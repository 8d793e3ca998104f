import json
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse.doctor import measurement
from tfsparse.doctor.frontier import Frontier, Row
from tfsparse.doctor.timing import Summary
from tfsparse.testing import fixtures

LEVELS = (0.0, 0.5, 0.8, 0.9)
X, Y = fixtures.small_data()


@pytest.fixture(autouse=True, scope="module")
def one_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "PROCESSES", 1)
        yield


def values(model):
    return [np.array(ops.convert_to_numpy(v)) for v in [*model.variables, *model.optimizer.variables]]


def with_accuracy(model):
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def network(*middle, **options):
    keras.utils.set_random_seed(0)
    head = [layers.Dense(4, activation="softmax", name="b")]
    return with_accuracy(
        keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(8), *middle, *head], **options)
    )


@pytest.fixture(scope="module")
def nested():
    model = with_accuracy(fixtures.small_model())
    fixtures.fit_compiled(model, [tfsparse.Prune(tfsparse.Nested(LEVELS), 0.9, "feather")])
    return model


@pytest.fixture(scope="module")
def measured(nested):
    return tfsparse.frontier(nested, (X, Y), verbose=False)


def test_a_nested_model_is_measured_at_its_levels_and_as_it_is_cut(nested, measured):
    assert [row.sparsity for row in measured.rows] == list(LEVELS)
    assert (measured.is_nested, measured.metric, measured.num_examples) == (True, "accuracy", 64)


def test_at_and_the_frontier_are_equal_at_20_random_sparsities():
    model = fixtures.small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # tracing 42 models would take most of the time
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, run_eagerly=True)
    fixtures.fit_compiled(model, [tfsparse.Prune(tfsparse.Nested(LEVELS), 0.9, "feather")], 6)
    random = np.sort(np.random.default_rng(0).uniform(0, 0.9, 20)).tolist()
    result = tfsparse.frontier(model, (X[:16], Y[:16]), random, measure=False, verbose=False)
    assert [row.sparsity for row in result.rows] == [0.0, *random]
    for row in result.rows:
        assert row.value == tfsparse.at(model, row.sparsity).evaluate(X[:16], Y[:16], verbose=0)
    assert len({row.value for row in result.rows}) > 10, "they are different networks"


def test_multiply_adds_are_counted_and_forms_measured(nested, measured):
    for low, high in zip(measured.rows, measured.rows[1:], strict=False):
        assert low.macs >= high.macs
    for row in measured.rows:
        conv, hidden, head = (np.count_nonzero(v) for v in tfsparse.at(nested, row.sparsity).trainable_variables[::2])
        assert row.macs == 16 * conv + hidden + head
        assert row.bytes > 0
        assert 0 < row.milliseconds.min <= row.milliseconds.median <= row.milliseconds.max
    assert (measured.why_not_measured, measured.num_processes) == (None, 1)
    assert "all rounds of 1 processes" in " ".join(str(measured).split())


def test_forms_of_sparser_models_are_smaller():
    result = tfsparse.frontier(network(layers.Dense(500)), (X, Y), (0.9,), verbose=False)
    for name in ("macs", "saved_model_bytes", "bytes"):
        assert getattr(result.rows[1], name) < 0.95 * getattr(result.rows[0], name)


def test_the_model_does_not_change(nested):
    before = values(nested)
    tfsparse.frontier(nested, (X, Y), (0.3,), measure=False, verbose=False)
    assert all(np.array_equal(a, b) for a, b in zip(values(nested), before, strict=True))


def test_another_model_is_cut_and_the_table_says_so():
    model = network()
    before, result = values(model), tfsparse.frontier(model, (X, Y), (0.5,), measure=False, verbose=False)
    cut = keras.models.clone_model(model)
    cut.set_weights(model.get_weights())
    tfsparse.prune(cut, 0.5)
    assert result.rows[1].value == with_accuracy(cut).evaluate(X, Y, verbose=0)[1]
    assert result.rows[0].value == model.evaluate(X, Y, verbose=0)[1]
    assert "no level was trained" in str(result)
    assert "not measured: not asked for" in str(result)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))


def test_batch_normalization_is_measured_again_on_the_given_inputs():
    model, other = network(layers.BatchNormalization()), 5 + X
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())
    tfsparse.prune(expected, 0.5)
    tfsparse.recalibrate(expected, other)
    options = {"metric": "loss", "measure": False, "verbose": False}
    result = tfsparse.frontier(model, (X, Y), (0.5,), calibration=other, **options)
    assert result.rows[1].value == with_accuracy(expected).evaluate(X, Y, verbose=0)[0]
    assert tfsparse.frontier(model, (X, Y), (0.5,), **options).rows[1].value != result.rows[1].value


def test_a_dataset_has_as_many_examples_as_its_batches():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10)
    options = {"measure": False, "verbose": False}
    batches, arrays = (tfsparse.frontier(network(name="same"), d, (0.5,), **options) for d in (data, (X, Y)))
    assert batches == arrays


def test_golden_interval_of_wilson():
    """81 of 263: 0.2553 to 0.3662, in Newcombe, Statistics in Medicine 17 (1998), table I."""
    from tfsparse.doctor.frontier import _wilson

    low, high = _wilson("accuracy", 81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert _wilson("loss", 0.5, 263) == (None, None)
    assert math.isclose(_wilson("accuracy", 1.0, 100)[1], 1)


def result(metric="accuracy", numbers=(0.9, 0.91, 0.88, 0.895, 0.5)):
    levels = (0.0, 0.5, 0.8, 0.9, 0.98)
    rows = [Row(s, v, v - 0.01, v + 0.01, 10, 20, 30, Summary(1, 2, 3)) for s, v in zip(levels, numbers, strict=True)]
    return Frontier("model", metric, 100, True, "tflite-cpu", tuple(rows), None)


def test_the_knee_is_the_highest_sparsity_within_the_drop():
    assert [result().knee(drop) for drop in (0, 0.005, 0.5)] == [0.5, 0.9, 0.98]
    assert result("loss", (0.3, 0.25, 0.4, 0.5, 0.6)).knee(0.1) == 0.8


@pytest.mark.parametrize("drop", [-1, float("nan"), None, True])
def test_a_drop_is_a_number_of_at_least_0(drop):
    with pytest.raises(ValueError, match="expected a number >= 0 in units of accuracy, such as drop=0.005"):
        result().knee(drop)


def test_table_plot_and_dict():
    assert "2 (1 to 3)" in str(result())
    assert "0.8900 to 0.9100" in str(result())
    figure = result().plot(drop=0.005)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), [1, 0.5, 0.2, 0.1, 0.02])
    assert figure.axes[0].get_legend_handles_labels()[1] == ["0.9: at most 0.005 worse"]
    assert json.loads(json.dumps(result().as_dict()))["rows"][1]["milliseconds"]["median"] == 2


def test_what_a_target_cannot_measure_is_said():
    result = tfsparse.frontier(network(), (X, Y), (0.5,), target="xnnpack-arm", verbose=False)
    assert result.rows[1].saved_model_bytes > 0
    assert result.rows[1].milliseconds is None
    assert result.why_not_measured in str(result).replace("\n", " ")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (None, {}, r"frontier got no data: expected arrays \(x, y\) or a dataset"),
        ((X[:0], Y[:0]), {}, "without an example"),
        ((X, Y), {"sparsities": (0.5, 90)}, r"sparsities=90: expected the fraction of zeros.*mean sparsities=0.9\?"),
        ((X, Y), {"metric": "auc"}, "metric='auc': the model has "),
        ((X, Y), {"pruner": "saliency"}, "scores gradients, and there are none here"),
        ((X, Y), {"target": "toaster"}, "toaster"),
    ],
)
def test_wrong_arguments_are_errors(data, options, message):
    with pytest.raises(ValueError, match=message):
        tfsparse.frontier(network(), data, **options, measure=False, verbose=False)


def test_the_model_must_be_compiled_and_of_keras_3(nested):
    with pytest.raises(ValueError, match="call model.compile"):
        tfsparse.frontier(fixtures.small_model(), (X, Y))
    with pytest.raises(TypeError, match="Expected a Keras 3 model"):
        tfsparse.frontier("model.keras", (X, Y))
    with pytest.raises(ValueError, match="above the highest level that was trained: write at most 0.9"):
        tfsparse.frontier(nested, (X, Y), (0.95,), verbose=False)
