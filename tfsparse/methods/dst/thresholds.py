"""The numerics of DST, in `keras.ops`: a kernel, its thresholds, and the mask that they define.

A threshold has the rank of its kernel and broadcasts against it: one threshold per output unit has size 1 along all
other axes.

Source:
    Liu et al., "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked Layers" (ICLR
    2020), equations 1 to 8.
"""

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.registry import check_choice

KINDS = ("scalar", "vector", "matrix")


def margin(kernel, threshold):
    """Return `|kernel| - threshold`. A weight is kept where it is above 0.

    Args:
        kernel: Tensor of any shape.
        threshold: Tensor that broadcasts against it.

    Returns:
        A tensor of the kernel's shape.

    Examples:
        >>> margin(np.array([[0.5, -0.1]]), np.array([[0.2, 0.2]]))
        array([[ 0.3, -0.1]])
    """
    return ops.abs(kernel) - threshold


def surrogate(x):
    """Return the surrogate derivative of the step function `1[x > 0]`, a triangle with a long tail on either side.

        2 - 4|x|  for |x| <= 0.4
        0.4       for 0.4 < |x| <= 1
        0         otherwise

    Args:
        x: Float tensor.

    Returns:
        A tensor of the same shape and dtype.

    Source:
        The long-tailed estimator of Xu, Cheung, "Accurate and Compact Convolutional Neural Networks with Trained
        Binarization" (BMVC 2019), which Liu et al. (ICLR 2020) use.

    Examples:
        >>> surrogate(np.array([0.1, 0.7, 1.1]))
        array([1.6, 0.4, 0. ])
    """
    x = ops.abs(x)
    return ops.where(x <= 0.4, 2 - 4 * x, 0.4 * ops.cast(x <= 1, x.dtype))


def mask(kernel, threshold):
    """Return 1 where the weight is kept and 0 where it is pruned, with the kernel's shape and dtype."""
    return ops.cast(margin(kernel, threshold) > 0, kernel.dtype)


@ops.custom_gradient
def masked(kernel, threshold):
    """Return `kernel * mask`, which the layer computes with.

    With G the derivative by the result and Q the margin:

        dL/dkernel    = G * mask + G * kernel * surrogate(Q) * sign(kernel)      also where the mask is 0
        dL/dthreshold = -sum(G * kernel * surrogate(Q))                          over the weights that share it

    The gradient is written out, since automatic differentiation would compute all of this in every forward pass too.

    Args:
        kernel: Tensor of any shape.
        threshold: Tensor that broadcasts against it.

    Returns:
        A tensor of the kernel's shape and dtype.
    """
    above = margin(kernel, threshold)
    kept = ops.cast(above > 0, kernel.dtype)

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        by_mask = upstream * kernel * surrogate(above)
        by_threshold = -ops.sum(by_mask, axis=_shared_axes(threshold), keepdims=True)
        return upstream * kept + by_mask * ops.sign(kernel), by_threshold

    return kernel * kept, gradient


def penalty(threshold):
    """Return `sum(exp(-threshold))`, which falls while thresholds rise."""
    return ops.sum(ops.exp(-threshold))


def reset(threshold, kernel, floor: float):
    """Return the threshold, or 0 everywhere if at most the fraction `floor` of the kernel is kept.

    Examples:
        >>> reset(np.array([[10.0]]), np.array([[0.5]]), floor=0.01)
        array([[0.]])
    """
    kept = ops.mean(mask(kernel, threshold))
    return ops.where(kept <= floor, ops.zeros_like(threshold), threshold)


def cut(kernel, threshold, mask):
    """Return kernel and threshold so that exactly the entries of `mask` are kept.

        kernel    = kernel * mask
        threshold = max(min(threshold, 0.999 * smallest kept |kernel|), 0)

    A threshold below 0 would keep zeros.

    Args:
        kernel: Tensor of any shape.
        threshold: Tensor that broadcasts against it.
        mask: Tensor of the kernel's shape.

    Returns:
        The new kernel and the new threshold.
    """
    kept = ops.where(mask > 0, ops.abs(kernel), float("inf"))
    smallest = ops.min(kept, axis=_shared_axes(threshold), keepdims=True)
    threshold = ops.where(threshold < smallest, threshold, 0.999 * smallest)
    return backend_ops.masked(kernel, mask), ops.maximum(threshold, 0.0)


def _shared_axes(threshold):
    return tuple(axis for axis, size in enumerate(threshold.shape) if size == 1)


def threshold_shape(kind: str, kernel_shape: tuple[int, ...], output_axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a kernel's thresholds.

    Args:
        kind: "scalar", "vector" or "matrix".
        kernel_shape: Shape of the kernel.
        output_axes: The axes of the kernel that count its output units.

    Returns:
        A shape of the kernel's rank.

    Examples:
        >>> threshold_shape("vector", (3, 3, 16, 32), output_axes=(3,))
        (1, 1, 1, 32)
    """
    axes = {"scalar": (), "vector": output_axes, "matrix": tuple(range(len(kernel_shape)))}[kind]
    return tuple(size if axis in axes else 1 for axis, size in enumerate(kernel_shape))


def check_options(kind: str, alpha: float, floor: float | None) -> None:
    """Check the options of a layer with thresholds.

    Args:
        kind: Kind of threshold.
        alpha: Weight of the penalty.
        floor: Fraction of kept weights at which thresholds are reset, or None.

    Raises:
        ValueError: If an option is not one of its values or not in its range.
    """
    check_choice("threshold", kind, KINDS)
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha={alpha!r}: expected the penalty's weight, a number >= 0, for example alpha=5e-4.")
    if floor is not None and not 0 <= floor < 1:
        raise ValueError(f"floor={floor!r}: expected a fraction of living weights in [0, 1), for example floor=0.01.")
