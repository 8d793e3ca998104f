"""Training in which every layer loses its filters of the smallest L1 norm."""


import keras

from tfsparse.methods.filter_pruning.policy import FilterPolicy
from tfsparse.structured.stages.driver import ShrinkingDriver
from tfsparse.structured.stages.options import from_arguments, with_options
from tfsparse.structured.stages.rounds import RoundOptions


@with_options(RoundOptions)
class FilterPruning(ShrinkingDriver):
    """Train a model from whose layers the filters of the smallest L1 norm are removed.

        every `every` epochs, `rounds` times:
            norm of a channel = sum of |w| over the kernels that produce it
            of each layer's first C channels, round(C * sparsity * round / rounds) are gone: those of the smallest norms
            training continues with a new, smaller model: `driver.model`

    What stays keeps its weights, its statistics and its optimizer state. Layers whose outputs are added lose the same
    channels: the norms of their filters are added. The channels of the model's outputs stay.

    Each stage is one `model.fit`. Callbacks begin anew with the new model; epoch numbers continue. With a `directory`
    the model and the state of the training are saved after every epoch. If the same script is started again, it
    continues after the last whole epoch, as that of `ActivationDensity` does and on the same conditions.

    Args:
        model: A compiled Functional or Sequential model. Its first stage is trained in place.
        directory: Where the training is saved. Default: None, nowhere.
        {options}

    Attributes:
        model: The model of the stage that is trained, or was last.
        options: The `RoundOptions`.
        history: History of all epochs, as `fit` returns it.
        entries: The same, one dict per epoch.
        resizes: The resizes that led to `model`: after which `epoch`, and the channels to `keep` in each group.
        stopped: Why nothing is resized any more, or None.
        training_complexity: Multiply-adds of all epochs over those of as many epochs of the dense model.
        seconds: Wall time of the training, with resizing and writing.

    Raises:
        ValueError: If an option is out of range, the model is not compiled, is not a graph of layers or has no layer to
            resize, or the directory holds something else (`tfsparse.backend.run_directory.RunError`).
        TypeError: If `model` is not a Keras model, or an option is unknown.

    Source:
        Roy, Panda, Srinivasan, Raghunathan, "Pruning Filters while Training for Efficiently Optimizing Deep Learning
        Networks" (arXiv 2003.02800), of which we had the abstract: filters of small L1 norm go every few epochs. How
        many epochs and how many filters are ours, and so is what happens where layers are added.

    Examples:
        >>> driver = tfsparse.FilterPruning(model, sparsity=0.5, rounds=4)
        >>> history = driver.fit(x, y, epochs=30, validation_data=(x_test, y_test))
        epoch 6: round 1 of 4, widths 20-50-500 -> 18-44-438, MACs 100 % -> 80 %
        >>> driver.model.save("small.keras")
    """

    def __init__(self, model: keras.Model, *, directory=None, **options):
        options = from_arguments(RoundOptions, "FilterPruning", options)
        super().__init__(model, FilterPolicy(options), directory=directory)
