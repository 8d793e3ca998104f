"""Training in which the network loses the channels of the lowest relevance for the classes."""


import keras

from tfsparse.methods.feature_relevance.policy import Options, RelevancePolicy
from tfsparse.structured.stages.driver import ShrinkingDriver
from tfsparse.structured.stages.examples import are_arrays, inputs_and_labels_of
from tfsparse.structured.stages.options import from_arguments, with_options


@with_options(Options)
class FeatureRelevance(ShrinkingDriver):
    """Train a classifier from which the channels of the lowest relevance are removed.

        every `every` epochs, `rounds` times, on fixed examples in inference mode:
            R of an example = 1 at its class, then backwards by layer-wise relevance propagation with alpha=2, beta=1
            weight of a class = sigmoid(highest accuracy of a class / its accuracy)
            relevance of a channel = | mean over classes of weight * mean R of the channel |, / the norm over its layer
            of C channels of all layers, round(C * sparsity * round / rounds) are gone: those of the lowest relevance
            training continues with a new, smaller model: `driver.model`

    What stays keeps its weights, its statistics and its optimizer state. Layers whose outputs are added lose the same
    channels: their relevance is added. The channels of the model's outputs stay.

    Each stage is one `model.fit`. Callbacks begin anew with the new model; epoch numbers continue. With a `directory`
    the model and the state of the training are saved after every epoch. If the same script is started again, it
    continues after the last whole epoch, as that of `ActivationDensity` does and on the same conditions.

    Args:
        model: A compiled Functional or Sequential model with one input and one output, a number per class. Its first
            stage is trained in place.
        data: Inputs and labels to measure relevance on, `(x, y)` or batches of both. Default: None, the first of the
            training data.
        directory: Where the training is saved. Default: None, nowhere.
        {options}

    Attributes:
        model: The model of the stage that is trained, or was last.
        options: The options.
        measured: What relevance is measured on, in words.
        history: History of all epochs, as `fit` returns it.
        entries: The same, one dict per epoch.
        resizes: The resizes that led to `model`: after which `epoch`, and the channels to `keep` in each group.
        stopped: Why nothing is resized any more, or None.
        training_complexity: Multiply-adds of all epochs over those of as many epochs of the dense model.
        seconds: Wall time of the training, with measuring, resizing and writing.

    Raises:
        ValueError: If an option is out of range, the model is not compiled, is not a graph of layers, has no layer to
            resize or an operation that relevance cannot go through, the labels are no classes, or the directory holds
            something else (`tfsparse.backend.run_directory.RunError`).
        TypeError: If `model` is not a Keras model, or an option is unknown.

    Source:
        Aketi, Roy, Raghunathan, Roy, "Gradual Channel Pruning while Training using Feature Relevance Scores for
        Convolutional Neural Networks" (arXiv 2002.09958), and the authors' code. They mask channels; here they are
        removed, with their BatchNormalization. Ours: coupled channels (theirs is the first convolution of a residual
        block only), the smallest width, inputs that are negative, and a fraction in place of a number of channels.

    Examples:
        >>> driver = tfsparse.FeatureRelevance(model, sparsity=0.5, rounds=4)
        >>> history = driver.fit(x, y, epochs=30, validation_data=(x_test, y_test))
        >>> driver.model.save("small.keras")
    """

    def __init__(self, model: keras.Model, *, data=None, directory=None, **options):
        options = from_arguments(Options, "FeatureRelevance", options)
        if are_arrays(data):
            inputs_and_labels_of(data)  # raises if there are no labels
        super().__init__(model, RelevancePolicy(options), data, directory)
