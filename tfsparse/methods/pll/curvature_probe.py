"""Measures the loss around the present weights, and the time that it takes."""

import time

from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.methods.pll.budget import num_within_budget


class MeasuringCost:
    """How much was measured in all of training.

    Attributes:
        products: Hessian-vector products.
        seconds: Seconds of measuring.
        seconds_first: Seconds of the first call of each kind, which compiles.
    """

    def __init__(self):
        self.products, self.seconds, self.seconds_first = 0, 0.0, 0.0
        self._kinds = set()

    def timed(self, kind: str, function, *arguments):
        """Call a function that returns a computed number, and add its time."""
        start = time.perf_counter()
        result = function(*arguments)
        seconds = time.perf_counter() - start
        self.seconds += seconds
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.seconds_first += seconds
        return result


class CurvatureProbe:
    """The loss of the calibration data around the present weights, measured when asked.

    Args:
        curvature: The `Hessian` of that loss.
        masked_weights: The pruned weights with their masks.
        extra_state: `{name: variable}` with the last eigenvector as `direction_0`, `direction_1`, ...
        step: The training step, which seeds the random probes.
        cost: Where products and seconds are counted.
    """

    def __init__(self, curvature, masked_weights, extra_state: dict, step: int, cost: MeasuringCost):
        self._curvature, self._weights, self._step, self._cost = curvature, masked_weights.weights, step, cost
        self._masks = [backend_ops.read(mask) for mask in masked_weights.masks]
        self._directions = [extra_state[f"direction_{i}"] for i in range(len(self._masks))]

    def loss(self) -> float:
        """Return the loss of the calibration data."""
        return self._cost.timed("loss", self._curvature.loss)

    def trace(self, probes: int) -> float:
        """Return the trace of the Hessian over the living weights, estimated with so many products."""
        self._cost.products += probes
        return self._cost.timed("trace", self._curvature.trace, probes, self._step, self._masks)

    def eigenvalue(self, iterations: int) -> float:
        """Return the eigenvalue of largest magnitude, by power iteration from the last eigenvector."""
        self._cost.products += iterations
        value, vectors = self._cost.timed(
            "eigenvalue", self._curvature.top_eigenvalue, self._directions, iterations, self._masks
        )
        for direction, vector in zip(self._directions, vectors, strict=True):
            replicas.assign(direction, ops.cast(vector, "float32"))
        return value

    def num_within_budget(self, budget: float, most: int) -> tuple[int, float]:
        """Return how many of the smallest living weights have squares that sum to `budget` at most, and that sum.

        Args:
            budget: Largest sum.
            most: Largest number.
        """
        weights = [backend_ops.read(weight) for weight in self._weights]
        return self._cost.timed("budget", num_within_budget, weights, budget, self._masks, most)
