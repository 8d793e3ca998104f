"""DST's numerics, in `keras.ops`: a kernel, its thresholds, and the mask between them. For both roads and both engines.

A threshold has the rank of its kernel and broadcasts against it; "one per output unit" is 1 along all other axes.
Source: Liu et al., "Dynamic Sparse Training" (ICLR 2020), equations 1 to 8.
"""

from keras import ops

from tfsparse.backend import ops as backend_ops

KINDS = ("scalar", "vector", "matrix")


def margin(kernel, threshold):
    """`|kernel| - threshold`: a weight lives where it is above 0.

    >>> margin(np.array([[0.5, -0.1]]), np.array([[0.2, 0.2]]))
    array([[ 0.3, -0.1]])
    """
    return ops.abs(kernel) - threshold


def surrogate(x):
    """What stands for the derivative of `1[x > 0]`: a triangle with a long tail on either side.

        2 - 4|x|  for |x| <= 0.4;   0.4  for 0.4 < |x| <= 1;   0  beyond

    >>> surrogate(np.array([0.1, 0.7, 1.1]))
    array([1.6, 0.4, 0. ])
    """
    x = ops.abs(x)
    return ops.where(x <= 0.4, 2 - 4 * x, 0.4 * ops.cast(x <= 1, x.dtype))


def mask(kernel, threshold):
    """1 where the weight lives, 0 where it is pruned; shape and dtype of the kernel."""
    return ops.cast(margin(kernel, threshold) > 0, kernel.dtype)


@ops.custom_gradient
def masked(kernel, threshold):
    """`kernel * mask`: what the layer computes with. With G the derivative by the result and Q the margin,

        dL/dkernel    = G * mask + G * kernel * surrogate(Q) * sign(kernel)      also where the mask is 0
        dL/dthreshold = -sum(G * kernel * surrogate(Q))                          over the weights that share it

    Written out, since automatic differentiation would do all of this in every forward pass too.
    """
    above = margin(kernel, threshold)
    alive = ops.cast(above > 0, kernel.dtype)

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        structure = upstream * kernel * surrogate(above)
        along = _shared_axes(threshold)
        return upstream * alive + structure * ops.sign(kernel), -ops.sum(structure, axis=along, keepdims=True)

    return kernel * alive, gradient


def penalty(threshold):
    """`sum(exp(-threshold))`: falls while thresholds rise, less and less."""
    return ops.sum(ops.exp(-threshold))


def reset(threshold, kernel, floor: float):
    """The threshold, or 0 everywhere if no more than `floor` of the kernel lives.

    >>> reset(np.array([[10.0]]), np.array([[0.5]]), floor=0.01)
    array([[0.]])
    """
    alive = ops.mean(mask(kernel, threshold))
    return ops.where(alive <= floor, ops.zeros_like(threshold), threshold)


def cut(kernel, threshold, mask):
    """Kernel and threshold after which exactly the entries of `mask` live: the others are zero, and no threshold is
    above what lives under it, or below 0, where zeros would live.

        kernel = kernel * mask;  threshold = max(min(threshold, 0.999 * smallest living |kernel|), 0)
    """
    living = ops.where(mask > 0, ops.abs(kernel), float("inf"))
    smallest = ops.min(living, axis=_shared_axes(threshold), keepdims=True)
    threshold = ops.where(threshold < smallest, threshold, 0.999 * smallest)
    return backend_ops.masked(kernel, mask), ops.maximum(threshold, 0.0)


def _shared_axes(threshold):
    return tuple(axis for axis, size in enumerate(threshold.shape) if size == 1)


def shape(kind: str, kernel_shape: tuple[int, ...], units: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a kernel's thresholds; `units` are the axes along which its output units lie.

    >>> shape("vector", (3, 3, 16, 32), units=(3,))
    (1, 1, 1, 32)
    """
    axes = {"scalar": (), "vector": units, "matrix": tuple(range(len(kernel_shape)))}[kind]
    return tuple(size if axis in axes else 1 for axis, size in enumerate(kernel_shape))


def check(kind: str, alpha: float, floor: float | None) -> None:
    """Refuse what is no kind of threshold, no weight of a penalty, no fraction.

    Raises: ValueError.
    """
    if kind not in KINDS:
        raise ValueError(f"threshold={kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha={alpha!r}: expected the penalty's weight, a number >= 0, for example alpha=5e-4.")
    if floor is not None and not 0 <= floor < 1:
        raise ValueError(f"floor={floor!r}: expected a fraction of living weights in [0, 1), for example floor=0.01.")
