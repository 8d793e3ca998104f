"""One model of several: the mean of probabilities, its file, and what it gains."""

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import FreeTickets, ensemble, evaluate_ensemble, testing
from tfsparse.testing import fixtures

X, Y = testing.small_data()


def classifier(kernel, activation=None, name="classifier"):
    """One Dense layer, without a bias, of two inputs and two classes."""
    layer = keras.layers.Dense(np.shape(kernel)[1], activation, use_bias=False, name="dense")
    model = keras.Sequential([keras.Input((2,)), layer], name=name)
    layer.kernel.assign(np.array(kernel, "float32"))
    return model


def pruned(width, sparsity, seed, outputs=10):
    """A network with a large kernel and random weights, of which most are zero."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(width, "relu", name="hidden"), keras.layers.Dense(outputs, name="head")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    return tfsparse.prune(model, sparsity) or model


FIRST, SECOND = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 0.0]]


def softmax(logits):
    return np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_golden_the_output_is_the_mean_of_the_probabilities(activation):
    x = np.array([[1.0, 0.0], [-1.0, 2.0]], "float32")
    model = ensemble([classifier(FIRST, activation), classifier(SECOND, activation)])
    expected = (softmax(x @ np.array(FIRST)) + softmax(x @ np.array(SECOND))) / 2
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-6)
    assert expected[0] == pytest.approx([(0.7310586 + 0.1192029) / 2, (0.2689414 + 0.8807971) / 2])


def test_whether_the_models_return_logits_is_known_from_their_last_layer_or_said():
    x = np.array([[1.0, 3.0]], "float32")
    inner = classifier(FIRST, "softmax")
    outer = keras.Sequential([keras.Input((2,)), inner])
    last = keras.Sequential([keras.Input((2,)), classifier(FIRST), keras.layers.Softmax()])
    for model in (inner, outer, last):
        np.testing.assert_allclose(ensemble([model, model]).predict(x, verbose=0), softmax(x), rtol=1e-6)
    mean = ensemble([classifier(FIRST), classifier(SECOND)], from_logits=False)
    np.testing.assert_allclose(mean.predict(x, verbose=0), (x @ np.array(FIRST) + x @ np.array(SECOND)) / 2)


def test_the_models_that_are_given_do_not_change():
    first, second = classifier(FIRST), classifier(SECOND)
    model = ensemble([first, second])
    assert (first.name, second.name) == ("classifier", "classifier")
    model.get_layer("ticket_1").layers[-1].kernel.assign(np.zeros((2, 2)))
    np.testing.assert_array_equal(first.get_weights()[0], FIRST)


def test_the_tickets_of_a_folder_of_a_list_of_files_and_of_a_list_of_models_are_the_same(tmp_path):
    model = testing.small_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fixtures.fit_compiled(model, [FreeTickets(tmp_path, 0.5, num_tickets=2)], epochs=3)
    files = [tmp_path / "ticket_1.keras", str(tmp_path / "ticket_2.keras")]
    outputs = [softmax(keras.models.load_model(file).predict(X, verbose=0)) for file in files]
    for tickets in (tmp_path, str(tmp_path), files, [keras.models.load_model(file) for file in files]):
        np.testing.assert_allclose(ensemble(tickets).predict(X, verbose=0), sum(outputs) / 2, rtol=1e-5)


def test_an_ensemble_is_saved_and_loaded_as_any_model_of_keras(tmp_path):
    model = ensemble([classifier(FIRST), classifier(SECOND)])
    model.save(tmp_path / "ensemble.keras")
    x = np.array([[1.0, 3.0]], "float32")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_several_inputs_have_the_names_of_those_of_the_first_ticket():
    def make():
        a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
        return keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(keras.layers.Add()([a, b])))

    x = {"a": np.ones((1, 2), "float32"), "b": np.ones((1, 2), "float32")}
    assert ensemble([make(), make()]).predict(x, verbose=0).shape == (1, 3)


def test_layers_with_thresholds_become_plain_ones():
    model = tfsparse.dst(testing.small_model(), 1e-3)
    together = ensemble([model, model])
    np.testing.assert_allclose(together.predict(X, verbose=0), softmax(model.predict(X, verbose=0)), rtol=1e-5)
    assert not any(isinstance(layer, tfsparse.Thresholded) for layer in together.get_layer("ticket_1").layers)


def test_each_ticket_costs_its_living_weights(tmp_path):
    """64 x 500 weights of 4 bytes, a tenth of them living: 12,800 bytes and a bit for each weight, 4,000 bytes."""
    import tensorflow as tf

    tickets, x = [pruned(500, 0.9, seed) for seed in range(3)], np.ones((2, 64), "float32")
    model = ensemble(tickets)
    loaded = tf.saved_model.load(str(tfsparse.export(model, tmp_path / "packed")))
    np.testing.assert_allclose(loaded.serve(x), model.predict(x, verbose=0), rtol=1e-6)

    def size(path):
        return sum(file.stat().st_size for file in path.rglob("packed_*") if file.is_file())

    tfsparse.export(tickets[0], tmp_path / "one")
    of_living = 0.1 * (64 * 500 + 500 * 10) * 4 + (64 * 500 + 500 * 10) / 8
    assert 0.7 * of_living < size(tmp_path / "one") < of_living
    assert size(tmp_path / "packed") == pytest.approx(3 * size(tmp_path / "one"), rel=0.05)
    dense = ensemble([pruned(500, 0.0, seed) for seed in range(3)])
    whole = [sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in (
        tmp_path / "packed", tfsparse.export(dense, tmp_path / "dense")
    )]  # fmt: skip
    assert whole[0] < 0.35 * whole[1]


def test_golden_quality():
    """Four examples. The first ticket is right on three, the second on two; they differ on the last three."""
    x = np.array([[2.0, 0.0], [1.0, 2.0], [0.0, 3.0], [1.0, 0.0]], "float32")
    y = np.array([0, 1, 1, 1])
    first, second = classifier(FIRST), classifier([[1.0, 0.0], [0.0, -1.0]])
    quality = evaluate_ensemble(ensemble([first, second]), x, y)
    p, q = softmax(x @ np.array(FIRST)), softmax(x @ np.array([[1.0, 0.0], [0.0, -1.0]]))
    assert [row.accuracy for row in quality.tickets] == [0.75, 0.25]
    assert quality.disagreement == 0.5
    of_labels = [-np.log(each[range(4), y]).mean() for each in (p, q, (p + q) / 2)]
    np.testing.assert_allclose([row.nll for row in (*quality.tickets, quality.ensemble)], of_labels, rtol=1e-5)
    assert quality.ensemble.accuracy == np.mean(np.argmax(p + q, axis=-1) == y)
    assert "two tickets disagree on 50.00%" in " ".join(str(quality).split())
    assert quality.as_dict()["ensemble"]["name"] == "ensemble"


def test_the_quality_on_a_dataset_is_that_on_arrays():
    import tensorflow as tf

    model = ensemble([testing.small_model(), testing.small_model()])
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    assert evaluate_ensemble(model, batches) == evaluate_ensemble(model, X, Y)
    assert evaluate_ensemble(model, X, Y).disagreement == 0


def test_a_probability_of_zero_has_a_finite_likelihood():
    certain = classifier([[1000.0, 0.0], [0.0, 0.0]])
    quality = evaluate_ensemble(ensemble([certain, certain]), np.ones((1, 2), "float32"), np.array([1]))
    assert quality.ensemble.nll == pytest.approx(-np.log(keras.config.epsilon()))


class Subclassed(keras.Model):
    def call(self, x):
        return ops.relu(x)


@pytest.mark.parametrize(
    ("tickets", "message"),
    [
        (lambda: [classifier(FIRST)], "two or more tickets, and there are 1"),
        (lambda: "no/such/folder", r"no/such/folder has no tickets: expected the folder of FreeTickets\(folder\)"),
        (lambda: [Subclassed(), Subclassed()], "is no Functional or built Sequential model"),
        (lambda: [classifier(FIRST), classifier([[1, 2, 3], [1, 2, 3]])], r"outputs of shapes .*: expected one shape"),
        (lambda: [classifier([[1], [1]])] * 2, "one output unit: expected one for each class"),
    ],
)
def test_what_is_no_ensemble_is_refused(tickets, message):
    with pytest.raises(ValueError, match=message):
        ensemble(tickets())


def test_labels_are_integers():
    model = ensemble([classifier(FIRST), classifier(SECOND)])
    with pytest.raises(ValueError, match=r"labels of shape \(3, 2\) for 3 examples: expected an integer for each"):
        evaluate_ensemble(model, np.ones((3, 2), "float32"), np.ones((3, 2)))


def test_only_an_ensemble_has_tickets_to_evaluate():
    with pytest.raises(ValueError, match="'classifier' is no ensemble: expected what tfsparse.ensemble returned"):
        evaluate_ensemble(classifier(FIRST), X, Y)
