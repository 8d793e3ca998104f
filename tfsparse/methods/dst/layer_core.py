"""The layer with trainable thresholds, without what each Keras forces."""

import keras
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.keras_internals import all_layers, own_trainable_variables
from tfsparse.methods.dst import thresholds
from tfsparse.optimizers.masked_layer import MaskedLayer


class ThresholdedLayerBase(MaskedLayer):
    """Mixed into a Wrapper of Keras 3 or tf_keras, which calls the layer with `masked_kernels()`.

        call:                         the layer computes with thresholds.masked(kernel, threshold)
        losses:                       alpha * sum(exp(-threshold))
        after every optimizer step:   threshold = 0 if at most `floor` of the kernel is kept

    Attributes:
        thresholds: The trainable thresholds, one variable per kernel.
        alpha: Variable, the weight of the penalty.
        controller_state: Variable, the state of the `DST` callback's controller.
        sparsity: Target of the model, which the callback `DST` sets, or None. It is in the config.
        _keras: The module keras or tf_keras.
        _autocast_option: The option of `add_weight` which, if False, keeps a variable at its own precision.
        _is_kernel: `variable -> bool`: whether a trainable variable gets thresholds.
    """

    def __init__(
        self,
        layer,
        threshold: str = "vector",
        alpha: float = 5e-4,
        floor: float | None = None,
        sparsity: float | None = None,
        **kwargs,
    ):
        thresholds.check_options(threshold, alpha, floor)
        # masks are computed at full precision; the layer itself casts what it computes with
        own = {"name": layer.name, "dtype": layer.variable_dtype, "autocast": False}
        super().__init__(layer, **own | kwargs)
        self.threshold, self.floor, self.sparsity = threshold, floor, sparsity
        self._initial_alpha = float(alpha)

    def build(self, input_shape=None):
        """Build the layer and the thresholds of its kernels. They start at 0: nothing is pruned."""
        super().build(input_shape)
        pairs = self.owners_and_kernels()
        if not pairs:
            raise ValueError(
                f"Thresholded got {self.layer.name!r}, which has no trainable kernel of rank >= 2: wrap Dense, "
                "EinsumDense, convolutions and recurrent layers, and leave other layers as they are."
            )
        self.alpha = self._add("alpha", (), self._initial_alpha, trainable=False)
        self.controller_state = self._add("controller_state", (5,), 0.0, trainable=False)
        self.thresholds = [self._add_threshold(owner, kernel) for owner, kernel in pairs]

    @property
    def kernels(self) -> list:
        """The kernels of the layer and of layers inside it, in the order of `thresholds`."""
        return [kernel for _, kernel in self.owners_and_kernels()]

    @property
    def own_variables(self) -> list:
        """The variables that the plain layer does not have."""
        return [*self.thresholds, self.alpha, self.controller_state]

    def lower_floors(self, limit: float) -> None:
        """Lower all floors to at most `limit`. It takes effect when the training step is compiled next."""
        for threshold in self.thresholds:
            threshold.constraint.floor = min(threshold.constraint.floor, limit)

    def masks(self) -> list:
        """Return one mask per kernel: 1 where a weight is kept, 0 where it is pruned."""
        return [thresholds.mask(*pair) for pair in self._values()]

    def get_config(self) -> dict:
        own = {"threshold": self.threshold, "alpha": self._initial_alpha}
        return {**super().get_config(), **own, "floor": self.floor, "sparsity": self.sparsity}

    def owners_and_kernels(self):
        """Return pairs of a layer and its kernel: the innermost layer, since a wrapper may list the same kernel."""
        pairs = [(layer, v) for layer in all_layers(self.layer) for v in own_trainable_variables(layer)]
        return list({id(v): (layer, v) for layer, v in pairs if self._is_kernel(v)}.values())

    def _add(self, name, shape, value, dtype="float32", **options):
        options |= {"initializer": self._keras.initializers.Constant(value), self._autocast_option: False}
        return self.add_weight(name=name, shape=shape, dtype=dtype, **options)

    def _values(self):
        """Return pairs of the values of a kernel and of its threshold."""
        pairs = zip(self.kernels, self.thresholds, strict=True)
        return [(backend_ops.read(kernel), backend_ops.read(threshold)) for kernel, threshold in pairs]

    def masked_kernels(self) -> list:
        """Return `kernel * mask` for each kernel, with the gradients of `thresholds.masked`."""
        return [thresholds.masked(*pair) for pair in self._values()]

    def _add_threshold(self, owner, kernel):
        axes = output_axes(owner, kernel, self._keras.layers)
        shape = thresholds.threshold_shape(self.threshold, tuple(kernel.shape), axes)
        floor = self.floor
        if floor is None:  # as in the authors' code, which resets every layer but recurrent cells
            floor = 0.0 if hasattr(owner, "state_size") else 0.01
        name = f"{kernel.name.split('/')[-1].split(':')[0]}_threshold"
        options = {"regularizer": ThresholdPenalty(self.alpha), "constraint": ResetConstraint(kernel, floor)}
        return self._add(name, shape, 0.0, kernel.dtype, **options)


class ThresholdPenalty(keras.regularizers.Regularizer):
    """Regularizer of a threshold: `alpha * sum(exp(-threshold))`. tf_keras takes it as the function that it is.

    Args:
        alpha: Variable, the weight of the penalty.
    """

    def __init__(self, alpha):
        self.alpha = alpha

    def __call__(self, threshold):
        return ops.cast(backend_ops.read(self.alpha), threshold.dtype) * thresholds.penalty(backend_ops.read(threshold))


class ResetConstraint(keras.constraints.Constraint):
    """Constraint of a threshold: it returns to 0 where too little of the kernel is kept.

    Keras applies a constraint right after the optimizer's update, compiled or not and on every replica. The authors
    reset inside the next forward pass, just before the same masks are used.

    Args:
        kernel: The kernel of the threshold.
        floor: Fraction of kept weights, in [0, 1). At this fraction or below, the threshold is reset.
    """

    def __init__(self, kernel, floor: float):
        self.kernel, self.floor = kernel, floor

    def __call__(self, threshold):
        return thresholds.reset(backend_ops.read(threshold), backend_ops.read(self.kernel), self.floor)


def output_axes(owner, kernel, layers) -> tuple[int, ...]:
    """Return the axes of a kernel that count its output units.

        Dense, Conv, gates of recurrent layers    the last
        transposed Conv                           the one before the last
        depthwise Conv                            both
        EinsumDense                               those that its equation has in the output

    Args:
        owner: The layer that owns the kernel.
        kernel: A variable.
        layers: `keras.layers` or `tf_keras.layers`.

    Returns:
        Indices of axes.
    """
    rank = len(kernel.shape)
    if isinstance(owner, layers.EinsumDense):
        inputs, outputs = owner.equation.split("->")
        return tuple(axis for axis, letter in enumerate(inputs.split(",")[1]) if letter in outputs)
    if kernel is getattr(owner, "depthwise_kernel", None) or isinstance(
        owner, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    ):
        return (rank - 2, rank - 1)
    if isinstance(owner, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
        return (rank - 2,)
    return (rank - 1,)
