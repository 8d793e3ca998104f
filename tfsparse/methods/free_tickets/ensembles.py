"""One model of several, and what the ensemble gains."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from tfsparse.backend import keras_internals
from tfsparse.backend.tables import Column, Printed, make_table
from tfsparse.methods.free_tickets.tickets import TicketFolder
from tfsparse.optimizers import masked_layer


def ensemble(
    tickets: str | os.PathLike | Sequence, from_logits: bool | None = None, name: str = "ensemble"
) -> keras.Model:
    """Return one model whose output is the mean of the probabilities of several models.

        output = mean of softmax(ticket(x)) over the tickets

    It consists of layers of Keras alone, so `save`, `tfsparse.export` and `tf.saved_model` know it. In the SavedModel
    of `export` each ticket takes the bytes of its living weights. The models that are given do not change: the ensemble
    has copies of them.

    Args:
        tickets: The folder of `FreeTickets(folder)`; or two or more models, or their `.keras` files, of one or several
            trainings. They are classifiers with the same inputs and classes, one output for each class.
        from_logits: Whether the models return logits. Default: None, which is True unless their last layer is a
            softmax.
        name: Name of the ensemble. Default: "ensemble".

    Returns:
        A Functional model, which is not compiled. Its `layers` have the tickets under the names `ticket_1`, ...

    Raises:
        ValueError: If there are fewer than two tickets, or if they are no such models.

    Source:
        Liu et al., "Deep Ensembling with No Overhead for either Training or Testing: The All-Round Blessings of Dynamic
        Sparsity" (ICLR 2022).

    Examples:
        >>> model = tfsparse.ensemble("tickets")           # EDST: one training
        >>> model = tfsparse.ensemble([first, second])     # DST ensemble: several trainings
        >>> tfsparse.export(model, "out/ensemble")
    """
    models = [_load(ticket) for ticket in _tickets_of(tickets)]
    _check(models)
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), _input(models[0])
    )
    probabilities = []
    for number, model in enumerate(models, start=1):
        member = masked_layer.plain_model(model)  # a copy, also if no layer is masked
        member.name = f"ticket_{number}"
        output = member(inputs)
        if _returns_logits(model) if from_logits is None else from_logits:
            output = keras.layers.Softmax(dtype="float32", name=f"softmax_{number}")(output)
        probabilities.append(output)
    return keras.Model(inputs, keras.layers.Average(dtype="float32", name="mean")(probabilities), name=name)


def _tickets_of(tickets):
    if not isinstance(tickets, (str, os.PathLike)):
        return list(tickets)
    paths = TicketFolder(tickets).paths()
    if not paths:
        raise ValueError(
            f"{tickets} has no tickets: expected the folder of FreeTickets(folder), or a list of models or files."
        )
    return paths


def _load(ticket):
    if isinstance(ticket, (str, os.PathLike)):
        return keras.models.load_model(pathlib.Path(ticket), compile=False)
    return ticket


def _check(models):
    if len(models) < 2:
        raise ValueError(f"An ensemble has two or more tickets, and there are {len(models)}: train to the end first.")
    for model in models:
        if keras_internals.graph(model) is None:
            raise ValueError(f"{model!r} is no Functional or built Sequential model, so it has no inputs to share.")
    outputs = {tuple(tuple(output.shape) for output in model.outputs) for model in models}
    if len(outputs) > 1 or len(models[0].outputs) > 1 or len(models[0].outputs[0].shape) < 2:
        raise ValueError(f"The tickets have outputs of shapes {sorted(outputs)}: expected one shape, (batch, classes).")
    if models[0].outputs[0].shape[-1] == 1:
        raise ValueError("The tickets have one output unit: expected one for each class, so two for two classes.")


def _input(model):
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _returns_logits(model):
    layer = model
    while isinstance(layer, keras.Model):
        layer = keras_internals.operation_of(layer.outputs[0])
    softmax = keras.activations.softmax
    return not isinstance(layer, keras.layers.Softmax) and getattr(layer, "activation", None) is not softmax


@dataclasses.dataclass(frozen=True)
class Row:
    """How well one model predicts.

    Args:
        name: Of the ticket, or of the ensemble.
        accuracy: Fraction of the examples whose most probable class is the right one.
        nll: Negative log-likelihood: the mean of -log(probability of the right class).
    """

    name: str
    accuracy: float
    nll: float


@dataclasses.dataclass(frozen=True, repr=False)
class EnsembleQuality(Printed):
    """What an ensemble gains over its tickets. `print` shows it as a table.

    Args:
        tickets: A `Row` for each ticket.
        ensemble: The `Row` of the ensemble.
        disagreement: Fraction of the examples for which two tickets predict other classes, the mean of all pairs.
    """

    tickets: tuple[Row, ...]
    ensemble: Row
    disagreement: float

    def table(self):
        """Return a `rich.table.Table`."""
        columns = ("name", Column("accuracy", text=lambda v: f"{v:.2%}", justify="right"))
        columns += (Column("NLL", "nll", lambda v: f"{v:.4f}", "right"),)
        caption = f"two tickets disagree on {self.disagreement:.2%} of the examples"
        return make_table(columns, (*self.tickets, self.ensemble), title="ensemble", caption=caption)


def evaluate_ensemble(model: keras.Model, x, y=None) -> EnsembleQuality:
    """Measure an ensemble and each of its tickets.

        disagreement = mean of (argmax ticket_i(x) != argmax ticket_j(x)) over examples and pairs i < j
        NLL          = mean of -log(p), p of the right class, at least 1e-7

    Args:
        model: What `tfsparse.ensemble` returned.
        x: Inputs as an array; or a dataset of batches `(x, y)` that always has the same order, and no `y`.
        y: Integer labels. Default: None, those of the dataset.

    Returns:
        An `EnsembleQuality`.

    Raises:
        ValueError: If the model is no such ensemble, or if there is not one label for each example.

    Examples:
        >>> print(tfsparse.evaluate_ensemble(tfsparse.ensemble("tickets"), x_test, y_test))
    """
    if not isinstance(model.layers[-1], keras.layers.Average):
        raise ValueError(f"{model.name!r} is no ensemble: expected what tfsparse.ensemble returned.")
    mean = model.layers[-1]
    all_outputs = keras.Model(model.input, [*mean.input, model.output])
    probabilities = all_outputs.predict(x, verbose=0)
    labels = np.concatenate([np.asarray(batch[1]) for batch in x]) if y is None else np.asarray(y)
    if labels.size != len(probabilities[0]):
        raise ValueError(
            f"There are labels of shape {labels.shape} for {len(probabilities[0])} examples: expected an integer for "
            "each, as np.argmax(y, axis=-1) makes of one-hot labels."
        )
    names = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    *tickets, together = map(_row, (*names, model.name), probabilities, [labels.reshape(-1)] * len(probabilities))
    classes = [np.argmax(p, axis=-1) for p in probabilities[:-1]]
    disagreement = np.mean([np.mean(a != b) for a, b in itertools.combinations(classes, 2)])
    return EnsembleQuality(tuple(tickets), together, float(disagreement))


def _row(name, probabilities, labels):
    of_labels = np.take_along_axis(probabilities, labels[:, None], axis=-1)
    nll = -np.log(np.maximum(of_labels, keras.config.epsilon()))
    return Row(name, float(np.mean(np.argmax(probabilities, axis=-1) == labels)), float(np.mean(nll)))
