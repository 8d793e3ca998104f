"""GraSP: gradient signal preservation."""

import numpy as np
from keras import ops

from tfsparse.masks import sort_keys
from tfsparse.pruners.calibrated import CalibratedPruner
from tfsparse.pruners.pruner import pruners


@pruners.register
class GraSP(CalibratedPruner):
    """Prune before training what hinders the flow of the gradient.

        f = L of the outputs / temperature, of one half of the data plus of the other
        score = w * H g                             g: gradient of f, H: its Hessian

    Removing a weight changes |g|^2 by -2 w (H g) to first order, so the weights with the lowest score, which is often
    negative, are removed. Each half has as many samples of every class. BatchNormalization uses the statistics of each
    half. The outputs should be logits: a softmax would make the temperature meaningless.

    The authors score a copy of the model whose Dense layers are initialised anew, and their halves have different
    classes. Here the weights that will be trained are scored.

    Args:
        granularity: "weight", the only choice: scores of both signs have no meaningful mean.
        scope: "global": one threshold for all weights, or "layer". Default: None, which is "global", or "layer" with an
            allocation.
        allocation: "uniform" or "erk", for scope="layer". Default: "uniform".
        temperature: What the outputs are divided by, > 0. Default: 200.0.
        samples_per_class: Number of samples of each class, an even number >= 2. Default: 10.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow" (ICLR 2020).

    Examples:
        >>> grasp = tfsparse.Prune("constant", 0.95, "grasp", data=(x[:500], y[:500]))
        >>> model.fit(x, y, epochs=10, callbacks=[grasp])
    """

    def __init__(
        self,
        granularity="weight",
        scope: str | None = None,
        allocation: str = "uniform",
        *,
        temperature: float = 200.0,
        samples_per_class: int = 10,
    ):
        if granularity != "weight":
            raise ValueError(
                f'GraSP got granularity={granularity!r}: expected "weight", since its scores have both signs and no '
                f"meaningful mean. Write GraSP(), or SNIP({granularity!r})."
            )
        super().__init__(granularity, scope, allocation)
        if not temperature > 0:
            raise ValueError(f"GraSP got temperature={temperature!r}: expected a number > 0, as in temperature=200.0.")
        if isinstance(samples_per_class, bool) or samples_per_class < 2 or samples_per_class % 2:
            raise ValueError(
                f"GraSP got samples_per_class={samples_per_class!r}: expected an even number >= 2, since both halves "
                "of the data have as many of each class, as in samples_per_class=10."
            )
        self.temperature, self.samples_per_class = temperature, samples_per_class

    def sensitivities(self, calibration, weights):
        halves = self._halves(calibration, weights)

        def loss(values):
            return sum(calibration.loss(values, rows, self.temperature) for rows in halves)

        return calibration.hessian_product(loss, weights, calibration.gradients(loss, weights))

    def score(self, weight, gradient, mask):
        return ops.where(mask > 0, sort_keys.ordered(weight * gradient), 0.0)

    def _halves(self, calibration, weights):
        labels = calibration.class_labels(weights)
        if labels is None:
            rows = np.arange(calibration.num_rows)
            return np.array_split(rows, 2)
        return _balanced_halves(*labels, self.samples_per_class)


def _balanced_halves(labels, num_classes, samples_per_class):
    """Return the rows of two halves with the first samples of each class.

    Args:
        labels: Integer array with the class of each row.
        num_classes: Number of classes.
        samples_per_class: Number of rows of each class in both halves together.

    Raises:
        ValueError: If a class has fewer rows.
    """
    found = [np.flatnonzero(labels == c)[:samples_per_class] for c in range(num_classes)]
    scarce = min(range(num_classes), key=lambda c: len(found[c]))
    if len(found[scarce]) < samples_per_class:
        most = len(found[scarce]) // 2 * 2
        instead = f", or write GraSP(samples_per_class={most})" if most else ""
        raise ValueError(
            f"data has {len(found[scarce])} samples of class {scarce} of {num_classes}, GraSP expects "
            f"samples_per_class={samples_per_class}: pass more data{instead}."
        )
    half = samples_per_class // 2
    return [np.concatenate([rows[:half] for rows in found]), np.concatenate([rows[half:] for rows in found])]
