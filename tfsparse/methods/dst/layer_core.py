"""What a layer with trainable thresholds is, whichever Keras its wrapper comes from."""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.keras_internals import all_layers, own_trainable_variables
from tfsparse.methods.dst import thresholds
from tfsparse.optimizers.masked_layer import MaskedLayer


class ThresholdedLayerBase(MaskedLayer):
    """Mixed into a Wrapper of Keras 3 or of tf_keras, which says where kernels are and how the layer is called.

        call:                         layer computes with thresholds.masked(kernel, threshold) for each of its kernels
        losses:                       alpha * sum(exp(-threshold))
        after every optimizer step:   threshold = 0 if at most `floor` of the kernel lives

    Attributes:
        _keras: the module, keras or tf_keras.
        _uncast: how its `add_weight` is told to leave a variable's precision alone.
        _is_kernel: `variable -> bool`: whether a trainable variable gets thresholds.
    """

    def __init__(self, layer, threshold: str = "vector", alpha: float = 5e-4, floor: float | None = None, **kwargs):
        thresholds.check(threshold, alpha, floor)
        # masks are made at full precision; the layer casts by itself what it computes with
        own = {"name": layer.name, "dtype": layer.variable_dtype, "autocast": False}
        super().__init__(layer, **own | kwargs)
        self.threshold, self.floor = threshold, floor
        self._alpha = float(alpha)

    def build(self, input_shape=None):
        """Build the layer, and the thresholds of its kernels, which start at 0: nothing is pruned."""
        super().build(input_shape)
        owned = self._owned()
        if not owned:
            raise ValueError(
                f"Thresholded got {self.layer.name!r}, which has no trainable kernel of rank >= 2: wrap Dense, "
                "EinsumDense, convolutions and recurrent layers, and leave other layers as they are."
            )
        self.alpha = self._add("alpha", (), self._alpha, trainable=False)
        self.control = self._add("control", (5,), 0.0, trainable=False)  # what a DST callback has to remember
        self.thresholds = [self._add_threshold(owner, kernel) for owner, kernel in owned]

    @property
    def kernels(self) -> list:
        """The kernels of the layer and of layers inside it, in the order of `thresholds`."""
        return [kernel for _, kernel in self._owned()]

    @property
    def own_variables(self) -> list:
        """What the plain layer does not have."""
        return [*self.thresholds, self.alpha, self.control]

    def lower_floors(self, limit: float) -> None:
        """From the next compilation of the training step on reset at no more than this; build anew to take it back."""
        for threshold in self.thresholds:
            threshold.constraint.floor = min(threshold.constraint.floor, limit)

    def masks(self) -> list:
        """1 where a weight lives, 0 where it is pruned; in the order of `kernels`."""
        return [thresholds.mask(backend_ops.read(k), backend_ops.read(t)) for k, t in self._pairs()]

    def get_config(self) -> dict:
        return {**super().get_config(), "threshold": self.threshold, "alpha": self._alpha, "floor": self.floor}

    def _owned(self):
        """Return pairs of a layer, the wrapped one or one inside it, and a kernel of its own."""
        return [
            (layer, variable)
            for layer in all_layers(self.layer)
            for variable in own_trainable_variables(layer)
            if self._is_kernel(variable)
        ]

    def _add(self, name, shape, value, dtype="float32", **options):
        """A variable of this wrapper that is never cast to a lower precision."""
        initializer = self._keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=shape, dtype=dtype, initializer=initializer, **self._uncast, **options)

    def _pairs(self):
        return zip(self.kernels, self.thresholds, strict=True)

    def _masked(self) -> list:
        """What the layer computes with instead of its kernels."""
        return [thresholds.masked(backend_ops.read(k), backend_ops.read(t)) for k, t in self._pairs()]

    def _add_threshold(self, owner, kernel):
        units = output_axes(owner, kernel, self._keras.layers)
        shape = thresholds.shape(self.threshold, tuple(kernel.shape), units)
        floor = self.floor
        if floor is None:  # as in the authors' code, which resets every layer but recurrent cells
            floor = 0.0 if hasattr(owner, "state_size") else 0.01
        name = f"{kernel.name.split('/')[-1].split(':')[0]}_threshold"
        return self._add(name, shape, 0.0, kernel.dtype, regularizer=self._penalty, constraint=Reset(kernel, floor))

    def _penalty(self, threshold):
        return ops.cast(backend_ops.read(self.alpha), threshold.dtype) * thresholds.penalty(backend_ops.read(threshold))


class Reset:
    """Constraint of a threshold: back to 0 where too little of the kernel lives.

    A constraint, since Keras applies it right after the optimizer's update, compiled or not and on every replica; the
    authors reset inside the forward pass, just before the same masks are used.
    """

    def __init__(self, kernel, floor: float):
        self.kernel, self.floor = kernel, floor

    def __call__(self, threshold):
        return thresholds.reset(backend_ops.read(threshold), backend_ops.read(self.kernel), self.floor)


def output_axes(owner, kernel, layers) -> tuple[int, ...]:
    """The axes along which a kernel's output units lie; `layers` is `keras.layers` or `tf_keras.layers`.

        Dense, Conv, recurrent gates   the last;   transposed Conv   the one before it
        depthwise                      both;       EinsumDense       those that its equation has in the output
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
