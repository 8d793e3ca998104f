"""Training in which every layer shrinks to the share of its activations that are not zero."""

import dataclasses
import inspect

import keras
from keras import tree

from tfsparse.backend.registry import nearest
from tfsparse.methods.activation_density import rules
from tfsparse.methods.activation_density.examples import Source, first_of
from tfsparse.methods.activation_density.plan import Plan, check_whole
from tfsparse.methods.activation_density.record import Record
from tfsparse.methods.activation_density.training import Training
from tfsparse.structured import Channels


class ActivationDensity:
    """Prune by activation density: `ActivationDensity(model).fit(x, y, epochs=60, validation_data=...)`.

        after every epoch:    density of a layer = activations that are not zero / all, on fixed examples
        a stage ends when:    max - min of the last `window` densities < saturation, for 95 % of the layers
        then, at most `rounds` times:
            width <- floor(width * density + 1/2), of the channels with the highest density
            a new, physically smaller model goes on training: `driver.model`
        no more resizing when it would change no layer, or when the network's density is 0.9
        back to the model of the stage before when the best `monitor` of a stage fell by more than `tolerance`

    Layers whose outputs meet in an Add share a width, and the highest of their densities. A resize needs `min_epochs`
    more epochs to come: the smaller model must recover, and have its accuracy judged.

    What is known of the method for certain is its abstract and what density means. That it resizes to width * density
    once densities are at rest, and for good, is from memory; the numbers of the rule, when it stops and the way back
    are ours. The densities are those of inference mode on fixed examples; `measured` says so.

    Each stage is one `model.fit`: callbacks begin anew with the new model, `initial_epoch` goes on counting. Learning
    rates of a callback follow the epoch; those of a `LearningRateSchedule` go on with "inherit" and start again with
    "reinit".

    With a `directory` the model and all that is decided by are kept after every epoch. The same script started again
    goes on behind the last whole epoch, and ends with the very weights of an uninterrupted run if the order of the data
    depends on the epoch only. That holds for arrays, whose order is made here (`seed` and epoch; not with
    `steps_per_epoch` or `shuffle="batch"`), for whatever is not shuffled, and for `x` as a function: `fit(x=lambda
    first_epoch: dataset, ...)` is asked at the beginning of each stage. Callbacks keep their own memory, or none.

    Args:
        model: Functional or Sequential, compiled. Its first stage is trained in place.
        rounds: resizes at most; each divides the widths by 1 / density.
        weights: "inherit" the weights, statistics and optimizer state of the channels that stay, or "reinit": fresh
            weights and a fresh optimizer in the same widths.
        saturation: a difference of densities, in [0, 1].
        window: epochs over which they must be at rest.
        min_epochs: the fewest epochs between resizes, and after the last.
        max_epochs: resize after so many even if the densities are not at rest; None: epochs / (rounds + 1), so that
            all rounds come in time.
        prune_epochs: resize exactly after these epochs (rising, counted from 1) instead of all this; the rules that
            stop it hold.
        smallest: no layer becomes narrower.
        multiple: widths are rounded to a multiple of this.
        tolerance: in units of the monitored metric.
        monitor: a metric's name; higher is better unless it ends with "loss" or "error". Without it nothing goes back.
        examples: how many examples densities are measured on.
        data: inputs to measure on, arrays or batches; None: the first of the training data.
        directory: where to keep the training; None: nowhere.
        seed: of the order of arrays and of fresh weights.

    Attributes: `model`, `plan` (when it resizes); after or during `fit`: `history`, `entries`, `resizes`, `stopped`
    (why nothing is resized any more, or None), `training_complexity`, `seconds`, `measured`.

    Raises: ValueError for arguments that mean nothing, a model that is not compiled, not a graph of layers or without a
    layer to resize; `tfsparse.backend.run_directory.RunError`, a ValueError, for a directory that holds something else.

    Source: Foldy-Porto, Venkatesha, Panda, "Activation Density driven Energy-Efficient Pruning in Training",
    arXiv 2002.02949.

    >>> driver = tfsparse.ActivationDensity(model, rounds=2)
    >>> history = driver.fit(x, y, epochs=60, validation_data=(x_test, y_test))
    epoch 17: density 0.43, widths 16-32-64 -> 8-14-30, MACs 100 % -> 31 %
    >>> driver.model.save("small.keras")
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        rounds: int = 3,
        weights: str = "inherit",
        saturation: float = 0.01,
        window: int = 5,
        min_epochs: int = 10,
        max_epochs: int | None = None,
        prune_epochs: list[int] | None = None,
        smallest: int = 8,
        multiple: int = 1,
        tolerance: float = 0.02,
        monitor: str = "val_accuracy",
        examples: int = 5000,
        data=None,
        directory=None,
        seed: int = 0,
    ):
        when = rounds, saturation, window, min_epochs, max_epochs, prune_epochs
        self.plan = Plan(*when, smallest, multiple, tolerance, monitor, weights, seed)
        check_whole("examples", examples, 1)
        _check_model(model)
        self._first_model = model
        self._examples, self._data, self._directory = examples, data, directory
        self._training = None
        self.measured = ""

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs: int = 1,
        verbose="auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch: int = 0,
        **options,
    ) -> keras.callbacks.History:
        """Train for all stages; the arguments are those of `model.fit`, and `x` may be a function of a stage's first
        epoch.

        Returns: a history of all epochs: the metrics, `density`, `densities` and `widths` by group, `stage`, `macs` per
        example, `parameters`.
        """
        self._check_fit(epochs, initial_epoch, callbacks, options)
        given = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size, "shuffle": shuffle}
        given |= {"validation_split": validation_split, "validation_data": validation_data, **options}
        data = Source(given | {"class_weight": class_weight, "verbose": verbose}, self.plan.seed)
        model = self._first_model if self._directory else self.model
        groups = Channels(model).groups
        settings = self._settings(model, [len(group) for group in groups], epochs, initial_epoch, batch_size)
        record = Record(self._directory, settings, [group.name for group in groups])
        inputs = self._inputs(data, record, initial_epoch)
        say = print if verbose else lambda line: None
        self._training = Training(model, self.plan, record, data, inputs, (initial_epoch, epochs), say)
        self._training.run(tree.flatten(callbacks or []))
        return self.history

    @property
    def model(self) -> keras.Model:
        """The model of the stage that is trained, or was last."""
        return self._training.model if self._training else self._first_model

    @property
    def history(self) -> keras.callbacks.History:
        """All epochs of all stages, as `fit` returns it."""
        history = keras.callbacks.History()
        history.epoch = [entry["epoch"] - 1 for entry in self.entries]
        for entry in self.entries:
            for name, value in entry.items():
                if name != "epoch":
                    history.history.setdefault(name, []).append(value)
        return history

    @property
    def resizes(self) -> list[dict]:
        """`epoch` after which, and which channels of each group were kept, for the resizes that led to `model`."""
        made = self._training.record.resizes if self._training else []
        return [{key: resize[key] for key in ("epoch", "keep")} for resize in made]

    @property
    def stopped(self) -> str | None:
        """Why nothing is resized any more; None if nothing stands against it."""
        return self._training.record.position["stopped"] if self._training else None

    @property
    def training_complexity(self) -> float:
        """Multiply-adds of the epochs so far against those of as many epochs of the dense model; 1 before the first."""
        macs = [entry["macs"] for entry in self.entries]
        return rules.training_complexity(macs, self._training.dense_macs) if macs else 1.0

    @property
    def seconds(self) -> float:
        """Wall time of the training: measuring, resizing and writing included, what a kill has lost not."""
        return self._training.record.position["seconds"] if self._training else 0.0

    @property
    def entries(self) -> list[dict]:
        """`history` epoch by epoch, each with its number from 1 as `epoch`."""
        return self._training.record.epochs if self._training else []

    def _inputs(self, data, record, first):
        """What to measure on: inputs and batch size."""
        if self._data is None:
            inputs = data.inputs(first, self._examples, record.kept)
        else:
            inputs = record.kept(lambda: first_of(self._data, self._examples))
        self.measured = f"{len(tree.flatten(inputs[0])[0])} examples, inference mode"
        return inputs

    def _settings(self, model, widths, epochs, first, batch_size):
        """What a resumed training must have in common with the one that began."""
        run = {"epochs": epochs, "initial_epoch": first, "batch_size": batch_size, "examples": self._examples}
        return dataclasses.asdict(self.plan) | run | {"widths": widths, "parameters": model.count_params()}

    def _check_fit(self, epochs, first, callbacks, options):
        check_whole("epochs", epochs, 1)
        check_whole("initial_epoch", first, 0)
        if first >= epochs:
            raise ValueError(f"initial_epoch={first} leaves none of epochs={epochs}: write epochs={first + epochs}.")
        if isinstance(callbacks, keras.callbacks.CallbackList):
            raise ValueError("callbacks is a CallbackList, which serves one model only. Pass a list: callbacks=[...].")
        known = list(inspect.signature(keras.Model.fit).parameters)[1:]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise TypeError(
                f"fit() has no argument {unknown[0]!r}. Expected those of model.fit: {', '.join(known)}."
                f"{nearest(unknown[0], known)}"
            )
        self.plan.check_epochs(first, epochs)


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r}: expected a Keras model, as in ActivationDensity(model).")
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            f"Model {model.name!r} is not compiled, and nothing can be trained. Write first: "
            'model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"]).'
        )
    Channels(model).macs()  # raises what is wrong with it
