"""GradInit: the scale of initial weights is learnt from a few batches."""

import keras
import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers.calibration import Calibration

_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8  # of Adam


def gradinit(
    model: keras.Model,
    data,
    *,
    iterations: int = 180,
    batch_size: int = 256,
    rate: float = 0.01,
    eta: float = 0.1,
    gamma: float = 1.0,
    min_scale: float = 0.01,
    seed: int = 0,
) -> dict[str, float]:
    """Scale every initial weight tensor such that the first step of training lowers the loss most.

        g = gradient of the loss of batch A
        if |g| > gamma:   scales = Adam(scales, gradient of |g|)
        else:             scales = Adam(scales, gradient of the loss of batch B at weights - eta * g / |g|, over eta)

    One scale multiplies all entries of a trainable variable. Both batches are drawn anew each time, with half of their
    rows in common. The step `eta * g / |g|` counts as a constant. Call it after `compile` and before `fit`, so before
    there is a mask. BatchNormalization uses the statistics of the batch and keeps its moving ones; layers that draw
    random numbers behave as in inference.

    Args:
        model: A built and compiled model. Only its trainable variables are written.
        data: Arrays `(x, y)` or `(x, y, sample_weight)` with at least 1.5 times `batch_size` rows.
        iterations: Number of updates of the scales, >= 1. Default: 180.
        batch_size: Rows of each batch, an even number. Default: 256.
        rate: Learning rate of Adam, > 0. Default: 0.01.
        eta: Length of the step that is tried, > 0. Default: 0.1.
        gamma: Norm of the gradient above which the norm is lowered, > 0. Default: 1.0.
        min_scale: Least scale of a variable of rank >= 2, >= 0; of others it is 0. Default: 0.01.
        seed: Seed of the batches. Default: 0.

    Returns:
        `{path: scale}` of all trainable variables. The scale of a variable that is zero everywhere stays 1.

    Raises:
        TypeError: If `data` is not such a tuple.
        ValueError: If an argument is out of range, the data has too few rows or no labels, or the model is not
            compiled.

    Source:
        Zhu et al., "GradInit: Learning to Initialize Neural Networks for Stable and Efficient Training" (NeurIPS 2021),
        as in the code of Jaiswal et al., "Training Your Sparse Neural Network Better with Any Mask" (ICML 2022).

    Examples:
        >>> model.compile("sgd", "mse")
        >>> tfsparse.gradinit(model, data=(x[:5000], y[:5000]))
        >>> model.fit(x, y, epochs=10, callbacks=[tfsparse.Prune("constant", 0.98, "rigl")])
    """
    _check_options(iterations=iterations, batch_size=batch_size, rate=rate, eta=eta, gamma=gamma)
    weights = model.trainable_variables
    calibration = Calibration(model, weights, data)
    half, num_rows = batch_size // 2, calibration.num_rows
    if num_rows < 3 * half:
        raise ValueError(f"data has {num_rows} rows, gradinit expects 1.5 * batch_size = {3 * half}: pass more rows.")
    initial, random = [ops.convert_to_numpy(v) for v in weights], np.random.default_rng(seed)
    direction_of, slopes_of_norm, slopes_of_loss = _functions(calibration, initial, eta)
    scales = ScaleAdam([min_scale if v.ndim >= 2 else 0.0 for v in initial], rate)
    for _ in range(iterations):
        rows = random.choice(num_rows, 3 * half, replace=False)
        values, first, second = scales.values.astype("float32"), rows[: 2 * half], rows[half:]
        direction, norm = direction_of(values, first)
        if float(norm) > gamma:
            scales.update(slopes_of_norm(values, first, direction), is_constraint=True)
        else:
            scales.update(slopes_of_loss(values, second, direction), is_constraint=False)
    for variable, value, scale in zip(weights, initial, scales.values, strict=True):
        variable.assign(value * np.float32(scale))
    return {v.path: float(s) for v, s in zip(weights, scales.values, strict=True)}


def _functions(calibration, initial, eta):
    """Return the compiled functions of an iteration.

        (scales, rows)            -> direction = g(w) / |g(w)|, |g(w)|
        (scales, rows, direction) -> slopes of the norm = <w0, H(w) direction>
        (scales, rows, direction) -> slopes of the loss = <w0, g(w - eta * direction)> / eta

    `w0` are the initial weights and `w` the scaled ones, `g` the gradient and `H` the Hessian.
    """
    initial = [ops.convert_to_tensor(value) for value in initial]

    def scaled(scales):
        return [value * ops.cast(scales[i], value.dtype) for i, value in enumerate(initial)]

    def slopes(gradients):
        return ops.stack([ops.sum(ops.cast(g * v, "float32")) for g, v in zip(gradients, initial, strict=True)])

    def gradients(weights, rows):
        found = calibration.gradients(lambda values: calibration.loss(values, rows), weights)
        return [ops.convert_to_tensor(g) for g in found]  # that of an embedding has a form of its own

    def direction_of(scales, rows):
        found = gradients(scaled(scales), rows)
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in found))
        return [g / ops.maximum(norm, 1e-30) for g in found], norm

    def slopes_of_norm(scales, rows, direction):
        return slopes(calibration.hessian_product(lambda v: calibration.loss(v, rows), scaled(scales), direction))

    def slopes_of_loss(scales, rows, direction):
        stepped = [w - eta * d for w, d in zip(scaled(scales), direction, strict=True)]
        return slopes(gradients(stepped, rows)) / eta

    return [backend_ops.compiled(function) for function in (direction_of, slopes_of_norm, slopes_of_loss)]


class ScaleAdam:
    """Adam for scales, with a first moment of its own for each of two objectives and one second moment for both.

    Gradients are cut to [-1, 1] before.

    Args:
        least: Least value of each scale.
        rate: Learning rate.

    Attributes:
        values: The scales, at first 1.
    """

    def __init__(self, least: list[float], rate: float):
        self.values, self._least, self._rate = np.ones(len(least)), np.array(least), rate
        self._means, self._square = np.zeros((2, len(least))), np.zeros(len(least))
        self._steps = np.zeros(2, int)

    def update(self, slopes, is_constraint: bool) -> None:
        """Make one step.

        Args:
            slopes: Derivative of the objective by each scale.
            is_constraint: Whether the objective is the norm of the gradient, not the loss.
        """
        which = int(is_constraint)
        slopes = np.clip(ops.convert_to_numpy(slopes).astype("float64"), -1, 1)
        self._steps[which] += 1
        self._means[which] += (1 - _FIRST) * (slopes - self._means[which])
        self._square += (1 - _SECOND) * (slopes**2 - self._square)
        mean = self._means[which] / (1 - _FIRST ** self._steps[which])
        deviation = np.sqrt(self._square / (1 - _SECOND ** self._steps.sum()))
        self.values = np.maximum(self.values - self._rate * mean / (deviation + _EPSILON), self._least)


def _check_options(**options):
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r}: expected a number above 0, see help(tfsparse.gradinit).")
    if options["batch_size"] % 2:
        raise ValueError(f"batch_size={options['batch_size']!r}: expected an even number, for example batch_size=256.")
