"""Training in which every layer shrinks to the fraction of its activations that are not zero."""

import contextlib
import dataclasses
import inspect

import keras
from keras import tree

from tfsparse.backend import files
from tfsparse.backend.registry import nearest
from tfsparse.methods.activation_density import rules
from tfsparse.methods.activation_density.examples import FitData, first_inputs
from tfsparse.methods.activation_density.options import Options, check_whole, with_options
from tfsparse.methods.activation_density.policy import ResizePolicy
from tfsparse.methods.activation_density.record import Record
from tfsparse.methods.activation_density.training import Training
from tfsparse.structured import Channels


@with_options
class ActivationDensity:
    """Train a model that becomes physically smaller, by the density of its activations.

        after every epoch:    density of a layer = activations that are not zero / all, on fixed examples
        a stage ends when:    max - min of the last `window` densities < saturation, for 95 % of the layers
        then, at most `rounds` times:
            width = floor(width * density + 1/2), the channels with the highest density stay
            training continues with a new, smaller model: `driver.model`
        no more resizing when it would change no layer, or when the network's density is at least 0.9
        back to the model of the stage before when the best `monitor` of a stage is worse by more than `tolerance`

    Layers whose outputs are added share a width, and the highest of their densities. A resize needs `min_epochs` more
    epochs to come: the smaller model must recover, and its accuracy must be measured. Densities are measured in
    inference mode on fixed examples.

    Each stage is one `model.fit`. Callbacks begin anew with the new model; epoch numbers continue. Learning rates of a
    callback follow the epoch. Those of a `LearningRateSchedule` continue with weights="inherit" and start again with
    weights="reinit".

    With a `directory` the model and the state of the training are saved after every epoch. If the same script is
    started again, it continues after the last whole epoch. It ends with the same bits as an uninterrupted run if the
    order of the data depends on the epoch only. That is so for arrays, which are shuffled here by seed and epoch (not
    with `steps_per_epoch` or `shuffle="batch"`), for data that are not shuffled, and for `x` as a function:
    `fit(x=lambda first_epoch: dataset, ...)` calls it at the beginning of each stage. The state of callbacks is not
    saved.

    Args:
        model: A compiled Functional or Sequential model. Its first stage is trained in place.
        data: Inputs to measure densities on, arrays or batches. Default: None, the first of the training data.
        directory: Where the training is saved. Default: None, nowhere.
        {options}

    Attributes:
        model: The model of the stage that is trained, or was last.
        options: The `Options`.
        measured: What densities are measured on, in words.
        history: History of all epochs, as `fit` returns it.
        entries: The same, one dict per epoch.
        resizes: The resizes that led to `model`: after which `epoch`, and the channels to `keep` in each group.
        stopped: Why nothing is resized any more, or None.
        training_complexity: Multiply-adds of all epochs over those of as many epochs of the dense model.
        seconds: Wall time of the training, with measuring, resizing and writing.

    Raises:
        ValueError: If an option is out of range, the model is not compiled, is not a graph of layers or has no layer to
            resize, or the directory holds something else (`tfsparse.backend.run_directory.RunError`).
        TypeError: If `model` is not a Keras model, or an option is unknown.

    Source:
        Foldy-Porto, Venkatesha, Panda, "Activation Density driven Energy-Efficient Pruning in Training" (arXiv
        2002.02949). We had its abstract and the definition of density. That a layer is resized to width * density once
        densities are saturated, and for good, is from memory. The numbers in the rule, the stopping criteria and the
        return to an earlier stage are ours.

    Examples:
        >>> driver = tfsparse.ActivationDensity(model, rounds=2)
        >>> history = driver.fit(x, y, epochs=60, validation_data=(x_test, y_test))
        epoch 17: density 0.43, widths 16-32-64 -> 8-14-30, MACs 100 % -> 31 %
        >>> driver.model.save("small.keras")
    """

    def __init__(self, model: keras.Model, *, data=None, directory=None, **options):
        _check_names("ActivationDensity", options, [field.name for field in dataclasses.fields(Options)])
        self.options = Options(**options)
        self._policy = ResizePolicy(self.options)
        _check_model(model)
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
            callbacks: A list of callbacks. They find `density`, `macs` and `parameters` in the logs of each epoch.
            validation_split: Fraction of the arrays that is used for validation.
            validation_data: Data for validation.
            shuffle: Whether arrays are shuffled. Default: True.
            class_weight: Weights of classes in the loss.
            sample_weight: Weights of examples in the loss.
            initial_epoch: First epoch. Default: 0.
            **options: More arguments of `model.fit`.

        Returns:
            A history of all epochs: the metrics, `density`, `densities` and `widths` by group, `stage`, `macs` per
            example, `parameters`.

        Raises:
            ValueError: If an argument is out of range, if the directory holds something else, or if another process
                trains into it.
            TypeError: If `model.fit` has no such argument, or the data to measure on are a generator.
        """
        _check_names("fit", options, list(inspect.signature(keras.Model.fit).parameters)[1:])
        self._check_fit(epochs, initial_epoch, callbacks)
        arguments = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size, "shuffle": shuffle}
        arguments |= {"validation_split": validation_split, "validation_data": validation_data, **options}
        data = FitData(arguments | {"class_weight": class_weight, "verbose": verbose}, self.options.seed)
        model = self._dense_model if self._directory else self.model
        groups = Channels(model).groups
        fixed = {"epochs": epochs, "initial_epoch": initial_epoch, "batch_size": batch_size}
        fixed |= {"widths": [len(group) for group in groups], "parameters": model.count_params()}
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
        """Check that `prune_epochs` are epochs of a training.

        Args:
            first_epoch: First epoch of the training, from 0.
            epochs: Epoch at which the training ends.

        Raises:
            ValueError: If they are not.
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
        return rules.training_complexity(macs, self._training.dense_macs) if macs else 1.0

    @property
    def seconds(self) -> float:
        """Wall time of the training, with measuring, resizing and writing, without what an interruption has lost."""
        return self._training.record.position.seconds if self._training else 0.0

    def _examples(self, data, record, first_epoch):
        """Return the examples to measure on, and their batch size."""
        count = self.options.examples
        if self._data is None:
            examples, batch_size = data.first_inputs(first_epoch, count, record.saved_examples)
        else:
            examples, batch_size = record.saved_examples(lambda: first_inputs(self._data, count))
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


def _check_names(function, arguments, known):
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise TypeError(
            f"{function}() has no argument {unknown[0]!r}: expected some of {', '.join(known)}."
            f"{nearest(unknown[0], known)}"
        )


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r}: expected a Keras model, as in ActivationDensity(model).")
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            f"Model {model.name!r} is not compiled, and nothing can be trained. Write first: "
            'model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"]).'
        )
    Channels(model).macs()  # raises what is wrong with it
