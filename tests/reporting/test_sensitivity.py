"""What it costs to prune one weight at a time."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsparse
from tfsparse.reporting.sensitivity import Sensitivity

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")


def network(batch_normalization=False):
    keras.utils.set_random_seed(0)
    middle = [layers.BatchNormalization()] if batch_normalization else []
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="a"), *middle, layers.Dense(2, name="b")])
    model.compile("sgd", "mse")
    return model


def values(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.variables]


def loss_with_one_weight_pruned(model, index, sparsity):
    """Outputs computed in NumPy, by a stable sort."""
    weights = values(model)
    kernel = weights[index]
    order = np.argsort(np.abs(kernel).ravel(), kind="stable")
    kernel.ravel()[order[: round(sparsity * kernel.size)]] = 0
    return np.mean((((X @ weights[0] + weights[1]) @ weights[2] + weights[3]) - Y) ** 2)


def test_each_weight_is_pruned_alone():
    model = network()
    before = values(model)
    result = tfsparse.sensitivity(model, (X, Y), (0.9, 0.5), verbose=False)
    expected = [[loss_with_one_weight_pruned(model, index, level) for level in (0.5, 0.9)] for index in (0, 2)]
    np.testing.assert_allclose(result.values, expected, rtol=1e-5)
    assert (result.metric, result.sizes) == ("loss", (30, 10))
    assert result.weights == tuple(v.path for v in model.trainable_variables[::2])
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))


def test_progress_is_shown_unless_it_is_switched_off(capsys):
    tfsparse.sensitivity(network(), (X, Y), (0.5,), exclude="a")
    assert "sensitivity" in capsys.readouterr().out
    tfsparse.sensitivity(network(), (X, Y), (0.5,), exclude="a", verbose=False)
    assert "sensitivity" not in capsys.readouterr().out


def test_batch_normalization_is_measured_again_and_put_back():
    model = network(batch_normalization=True)
    before = values(model)
    result = tfsparse.sensitivity(model, (X, Y), (0.5,), verbose=False)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))
    tfsparse.recalibrate(model, X)
    assert np.isclose(result.dense, model.evaluate(X, Y, verbose=0), rtol=1e-5)


@pytest.mark.parametrize("measure", [tfsparse.sensitivity, tfsparse.channel_sensitivity])
def test_batch_normalization_is_measured_with_inputs_of_training(measure):
    model = network(batch_normalization=True) if measure is tfsparse.sensitivity else convolutions()
    data = (X, Y) if measure is tfsparse.sensitivity else (IMAGES, Y[:16])
    training = 3 * data[0] + 1
    result = measure(model, data, (0.5,), calibration=training, verbose=False)
    tfsparse.recalibrate(model, training)
    assert np.isclose(result.dense, model.evaluate(*data, verbose=0), rtol=1e-5)


def test_layers_are_left_out_by_name():
    result = tfsparse.sensitivity(network(), (X, Y), (0.5,), exclude="a", verbose=False)
    assert [path.split("/")[-2] for path in result.weights] == ["b"]


def convolutions():
    """Two coupled convolutions, then one alone."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Add()([layers.Conv2D(8, 3, padding="same", name="second")(x), x])
    x = layers.Conv2D(6, 3, name="third")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(2, name="outputs")(layers.Flatten()(x)), name="net")
    model.compile("sgd", "mse")
    return model


IMAGES = np.random.default_rng(2).normal(size=(16, 4, 4, 2)).astype("float32")


def test_channels_of_each_group_are_dropped_alone():
    model = convolutions()
    before = values(model)
    result = tfsparse.channel_sensitivity(model, (IMAGES, Y[:16]), (0.9, 0.25), verbose=False)
    assert all(np.array_equal(a, b) for a, b in zip(values(model), before, strict=True))
    assert (result.weights, result.sizes, result.sparsities) == (("first", "third"), (8, 6), (0.25, 0.9))
    for name, row, widths in zip(result.weights, result.values, ((6, 1), (4, 1)), strict=True):
        for value, width in zip(row, widths, strict=True):
            smaller = convolutions()
            tfsparse.mask_channels(smaller, keep={name: width})
            tfsparse.recalibrate(smaller, IMAGES)
            assert np.isclose(value, smaller.evaluate(IMAGES, Y[:16], verbose=0), rtol=1e-5)


def test_channels_to_keep_are_what_shrink_takes():
    model = convolutions()
    result = tfsparse.channel_sensitivity(model, (IMAGES, Y[:16]), verbose=False)
    keep = result.keep(sparsity=0.4)
    assert keep == {name: round(n * (1 - s)) for (name, s), n in zip(result.targets(sparsity=0.4), (8, 6), strict=True)}
    small = tfsparse.shrink(model, keep=keep)
    widths = [small.get_layer(name).filters for name in ("first", "second", "third")]
    assert widths == [keep["first"], keep["first"], keep["third"]]
    assert result.keep(drop=1e9) == {"first": 2, "third": 2}, "no more than at the highest level that was measured"
    assert str(result).splitlines()[0].strip().startswith("net: loss with one group of channels pruned")


def golden(metric="accuracy", values=((0.9, 0.8, 0.6), (0.9, 0.9, 0.5))):
    return Sensitivity("net", metric, 0.9, ("a", "b"), (100, 300), (0.5, 0.8, 0.9), values, ("a", "b"))


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        (0.0, [0.5, 0.8]),
        (0.05, [0.65, 0.8125]),  # halfway from 0.5 to 0.8; an eighth of the way from 0.8 to 0.9
        (0.1, [0.8, 0.825]),
        (1.0, [0.9, 0.9]),
    ],
)
def test_targets_for_a_drop(drop, expected):
    targets = golden().targets(drop)
    assert [v for v, _ in targets] == ["a", "b"]
    np.testing.assert_allclose([s for _, s in targets], expected)


def test_a_drop_of_the_loss_is_a_rise():
    result = golden("loss", ((0.9, 1.0, 1.2), (0.9, 0.9, 1.3)))
    np.testing.assert_allclose([s for _, s in result.targets(0.1)], [0.8, 0.825])


@pytest.mark.parametrize("sparsity", [0.1, 0.725, 0.8, 0.85, 0.9])
def test_targets_for_a_sparsity_of_all_weights(sparsity):
    result = golden()
    targets = np.array([s for _, s in result.targets(sparsity=sparsity)])
    assert np.isclose(targets @ [0.25, 0.75], sparsity)
    drops = [np.interp(s, (0, *result.sparsities), (0, *d)) for s, d in zip(targets, result.drops, strict=True)]
    assert np.isclose(*drops, atol=1e-6) or sparsity == 0.9, "each weight may cost the same"


def test_a_level_that_happens_to_be_better_than_the_one_before_it_does_not_count():
    np.testing.assert_allclose(golden(values=((0.7, 0.9, 0.9), (0.9, 0.9, 0.9))).drops, [[0.2, 0.2, 0.2], [0, 0, 0]])


def test_targets_are_what_prune_takes():
    model = network()
    targets = tfsparse.sensitivity(model, (X, Y), (0.5, 0.8), verbose=False).targets(sparsity=0.6)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[tfsparse.Prune(sparsities=targets)])
    assert [r.target for r in tfsparse.report(model).rows] == pytest.approx([s for _, s in targets], abs=0.05)


def test_it_prints_plots_and_becomes_json():
    result = golden()
    assert "│ a      │ 0.9000 │ 0.8000 │ 0.6000 │" in str(result) and "(dense: 0.9000)" in str(result)
    assert json.loads(json.dumps(result.as_dict()))["values"] == [[0.9, 0.8, 0.6], [0.9, 0.9, 0.5]]
    np.testing.assert_allclose(result.plot().axes[0].images[0].get_array(), result.drops)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": (0.5, 1.0)}, "expected fractions between 0 and 1"),
        ({"metric": "auc"}, "metric='auc': the model has 'loss'"),
        ({"pruner": "saliency"}, 'scores gradients, and there are none here: write pruner="magnitude"'),
        ({"exclude": ["a", "b"]}, "has 0 kernels to prune"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message):
    model = network()
    if "exclude" in arguments:
        arguments = {"exclude": [model.get_layer(name) for name in arguments["exclude"]]}
    with pytest.raises(ValueError, match=message):
        tfsparse.sensitivity(model, (X, Y), verbose=False, **arguments)


@pytest.mark.parametrize(
    ("compiled", "widths", "message"),
    [
        (True, (), "has 0 groups of channels whose width can change and is compiled"),
        (False, (5,), "has 1 groups of channels whose width can change and is not compiled"),
    ],
)
def test_channels_need_a_compiled_model_whose_widths_can_change(compiled, widths, message):
    model = keras.Sequential([keras.Input((6,)), *map(layers.Dense, (*widths, 2))])
    if compiled:
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        tfsparse.channel_sensitivity(model, (X, Y), verbose=False)


@pytest.mark.parametrize("arguments", [{}, {"drop": 0.1, "sparsity": 0.5}, {"drop": -1}, {"sparsity": 0.95}])
def test_targets_need_one_number_in_range(arguments):
    with pytest.raises(ValueError, match=r"expected (one of them|more than 0)"):
        golden().targets(**arguments)
