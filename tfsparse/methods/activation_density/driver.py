"""Training in which every layer shrinks to the fraction of its activations that are not zero."""


import keras

from tfsparse.methods.activation_density.options import Options
from tfsparse.methods.activation_density.policy import DensityPolicy
from tfsparse.structured.stages.driver import ShrinkingDriver
from tfsparse.structured.stages.options import from_arguments, with_options


@with_options(Options)
class ActivationDensity(ShrinkingDriver):
    """Train a model that becomes physically smaller, by the density of its activations.

        after every epoch:    density of a layer = activations that are not zero / all, on fixed examples
        a stage ends when:    max - min of the last `window` densities < saturation, for 95 % of the layers
                              or after `max_epochs`, by default a tenth of the epochs
        then, at most `rounds` times:
            width = floor(width * max(density, min_kept) + 1/2), the channels with the highest density stay
            training continues with a new, smaller model: `driver.model`
        no more resizing when it would change no layer, or when the network's density is at least 0.9
        back to the model of the stage before when the best `monitor` of a stage is worse by more than `tolerance`

    With the defaults every layer loses a quarter of its channels at most, once and early. For a smaller network allow
    more `rounds`, or a smaller `min_kept`, and longer stages (`max_epochs`).

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
        densities are saturated, and for good, is from memory. The numbers in the rule, `min_kept`, the early
        resize, the stopping criteria and the return to an earlier stage are ours.

    Examples:
        >>> driver = tfsparse.ActivationDensity(model)
        >>> history = driver.fit(x, y, epochs=60, validation_data=(x_test, y_test))
        epoch 6: density 0.43, widths 16-32-64 -> 12-24-48, MACs 100 % -> 57 %
        >>> driver.model.save("small.keras")
    """

    def __init__(self, model: keras.Model, *, data=None, directory=None, **options):
        options = from_arguments(Options, "ActivationDensity", options)
        super().__init__(model, DensityPolicy(options), data, directory)
