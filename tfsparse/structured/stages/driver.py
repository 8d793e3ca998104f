"""What the methods have in common that train a model which becomes smaller: `fit`, its history and its costs."""

import contextlib
import dataclasses
import inspect
from collections.abc import Sequence

import keras
from keras import tree

from tfsparse.backend import files
from tfsparse.structured.channels import Channels
from tfsparse.structured.stages.examples import FitData, first_examples
from tfsparse.structured.stages.options import check_names, check_whole
from tfsparse.structured.stages.policy import ResizePolicy
from tfsparse.structured.stages.record import Record
from tfsparse.structured.stages.training import Training


class ShrinkingDriver:
    """Base of the classes that train a model in stages and make it smaller between them, by a policy.

    Args:
        model: A compiled Functional or Sequential model. Its first stage is trained in place.
        policy: A `ResizePolicy`.
        data: What the policy measures on, arrays or batches. Default: None, the first of the training data.
        directory: Where the training is saved. Default: None, nowhere.

    Raises:
        ValueError: If the model is not compiled, is not a graph of layers, or does not fit the policy.
        TypeError: If `model` is not a Keras model.
    """

    def __init__(self, model: keras.Model, policy: ResizePolicy, data=None, directory=None):
        self.options, self._policy = policy.options, policy
        graph = _graph(type(self).__name__, model)
        policy.check_model(model, graph)
        self._dense_model, self._data, self._directory = model, data, directory
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
        """Train all stages.

        Args:
            x: Inputs, a dataset, or a function of the first epoch of a stage that returns a dataset.
            y: Targets.
            batch_size: Number of examples per batch. Default: None, which is 32 for arrays.
            epochs: Epoch at which the training ends.
            verbose: As in `model.fit`. Lines about resizes are printed unless it is 0.
            callbacks: A list of callbacks. They find `macs`, `parameters` and what the method measures in
                the logs of each epoch.
            validation_split: Fraction of the arrays that is used for validation.
            validation_data: Data for validation.
            shuffle: Whether arrays are shuffled. Default: True.
            class_weight: Weights of classes in the loss.
            sample_weight: Weights of examples in the loss.
            initial_epoch: First epoch. Default: 0.
            **options: More arguments of `model.fit`.

        Returns:
            A history of all epochs: the metrics, what the method measures, `widths` by group, `stage`, `macs` per
            example, `parameters`. By activation density these are also `density`, and `densities` by group.

        Raises:
            ValueError: If an argument is out of range, if the directory holds something else, or if another process
                trains into it.
            TypeError: If `model.fit` has no such argument, or the data to measure on are a generator.
        """
        check_names("fit", options, list(inspect.signature(keras.Model.fit).parameters)[1:])
        self._check_fit(epochs, initial_epoch, callbacks)
        arguments = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size, "shuffle": shuffle}
        arguments |= {"validation_split": validation_split, "validation_data": validation_data, **options}
        data = FitData(arguments | {"class_weight": class_weight, "verbose": verbose}, self.options.seed)
        model = self._dense_model if self._directory else self.model
        groups = Channels(model).groups
        fixed = {"epochs": epochs, "initial_epoch": initial_epoch, "batch_size": batch_size}
        fixed |= {"widths": [len(group) for group in groups], "parameters": model.count_params()}
        fixed |= {"method": self._policy.method} if self._policy.method else {}
        print_line = print if verbose else lambda line: None
        with files.locked(self._directory) if self._directory else contextlib.nullcontext():
            record = Record(self._directory, dataclasses.asdict(self.options) | fixed, [g.name for g in groups])
            examples = self._examples(data, record, initial_epoch)
            self._training = Training(
                model, self._policy, record, data, *examples, initial_epoch, epochs, print_line=print_line
            )
            self._training.run(tree.flatten(callbacks or []))
        return self.history

    def check_epochs(self, first_epoch: int, epochs: int) -> None:
        """Check that what the options ask for can take place in a training.

        Args:
            first_epoch: First epoch of the training, from 0.
            epochs: Epoch at which the training ends.

        Raises:
            ValueError: If it cannot.
        """
        self._policy.check_epochs(first_epoch, epochs)

    @property
    def model(self) -> keras.Model:
        """The model of the stage that is trained, or was last."""
        return self._training.model if self._training else self._dense_model

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
    def entries(self) -> list[dict]:
        """`history` epoch by epoch, each with its number from 1 as `epoch`."""
        return self._training.record.entries if self._training else []

    @property
    def resizes(self) -> list[dict]:
        """`epoch` after which, and which channels of each group were kept, for the resizes that led to `model`."""
        resizes = self._training.record.resizes if self._training else []
        return [{key: resize[key] for key in ("epoch", "keep")} for resize in resizes]

    @property
    def stopped(self) -> str | None:
        """Why nothing is resized any more, or None."""
        return self._training.record.position.stopped if self._training else None

    @property
    def training_complexity(self) -> float:
        """Multiply-adds of all epochs over those of as many epochs of the dense model; 1 before the first."""
        macs = [entry["macs"] for entry in self.entries]
        return training_complexity(macs, self._training.dense_macs) if macs else 1.0

    @property
    def seconds(self) -> float:
        """Wall time of the training, with measuring, resizing and writing, without what an interruption has lost."""
        return self._training.record.position.seconds if self._training else 0.0

    def _examples(self, data, record, first_epoch):
        """Return the examples to measure on, and their batch size."""
        select = self._policy.examples
        if select is None:
            return None, None
        count = self.options.examples
        if self._data is None:
            examples, batch_size = data.first_examples(select, first_epoch, count, record.saved_examples)
        else:
            examples, batch_size = record.saved_examples(lambda: first_examples(self._data, count, select=select))
        self.measured = f"{len(tree.flatten(examples)[0])} examples, inference mode"
        return examples, batch_size

    def _check_fit(self, epochs, first_epoch, callbacks):
        check_whole("epochs", epochs, 1)
        check_whole("initial_epoch", first_epoch, 0)
        if first_epoch >= epochs:
            raise ValueError(
                f"initial_epoch={first_epoch} leaves none of epochs={epochs}: write epochs={first_epoch + epochs}."
            )
        if isinstance(callbacks, keras.callbacks.CallbackList):
            raise ValueError("callbacks is a CallbackList, which serves one model only. Pass a list: callbacks=[...].")
        self.check_epochs(first_epoch, epochs)


def _graph(method, model):
    """Return the `Channels` of a model that can be trained."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r}: expected a Keras model, as in {method}(model).")
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            f"Model {model.name!r} is not compiled, and nothing can be trained. Write first: "
            'model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"]).'
        )
    graph = Channels(model)
    graph.macs()  # raises what is wrong with it
    return graph


def training_complexity(macs: Sequence[float], dense: float) -> float:
    """Return the multiply-adds of the training over those of as many epochs of the dense network.

        sum(macs) / (number of epochs * dense)

    Args:
        macs: Multiply-adds of one example, for each epoch.
        dense: Multiply-adds of one example in the dense network.

    Returns:
        A fraction.

    Examples:
        >>> training_complexity([100, 100, 50, 50], dense=100)
        0.75
    """
    return sum(macs) / (len(macs) * dense)
