"""Smaller models within a budget."""

import statistics
import time
import warnings
from collections.abc import Callable

import keras
import numpy as np

from tfsparse.structured import importance
from tfsparse.structured.channel_tracer import IS_OUTPUT
from tfsparse.structured.channels import Channels
from tfsparse.structured.shrinking import shrink

_SMALLEST = 0.1  # of the channels of every group: a group of almost no channels would cut the network in two
_MAX_NAMED = 4


def slim(
    model: keras.Model,
    *,
    flops: float | None = None,
    parameters: float | None = None,
    sparsity: float | None = None,
    latency: float | None = None,
    score: str | Callable = "l2",
    multiple: int = 1,
) -> keras.Model:
    """Return a smaller model within a budget: the channels with the lowest scores of all groups are dropped.

        relative score = score / mean score of the group
        drop the lowest until cost(kept channels) <= budget * cost(model)

    The accuracy falls at once and returns with further training. If the model has BatchNormalization,
    `tfsparse.recalibrate(small, data)` brings a part of it back without training. `ActivationDensity` shrinks while
    training instead. Exactly one budget is given. Every group keeps at least a tenth of its channels. A warning names
    the groups whose channels cannot be removed, with the reason.

    Args:
        model: A built Functional or Sequential model.
        flops: Fraction of the multiply-adds per example to keep, in (0, 1).
        parameters: Fraction of the trainable parameters to keep, in (0, 1).
        sparsity: Fraction of the channels to drop, in (0, 1), of the groups whose channels can be removed.
        latency: Fraction of the time per example to keep, in (0, 1). The time is measured here and now.
        score: "l1" or "l2": norm of the kernels that produce the channel. "gamma": absolute scale of its
            BatchNormalization. Or a function `group -> one number per channel`. Default: "l2".
        multiple: Round numbers of channels up to a multiple of this; 8 suits most hardware. Default: 1.

    Returns:
        A new model, compiled as the given one is.

    Raises:
        ValueError: If the budget is missing, is not a fraction, or cannot be met.

    Examples:
        >>> small = tfsparse.slim(model, flops=0.5); small.fit(x, y, epochs=10)
    """
    budgets = {"flops": flops, "parameters": parameters, "sparsity": sparsity, "latency": latency}
    name, budget = _only_budget(budgets)
    selection = _Selection(Channels(model), score, multiple)
    _warn_of_missed(selection.channels)
    return shrink(model, selection.largest(_COSTS[name], budget))


def _warn_of_missed(channels):
    """Name groups and weights that stay as they are; nobody expects that the outputs of a model become fewer."""
    frozen = [g for g in channels.groups if g.frozen and g.frozen != IS_OUTPUT]
    missed = [f"{g.name} keeps its {len(g)} channels: {g.frozen}" for g in frozen]
    matrices = [v for v in channels.model.trainable_variables if len(v.shape) > 1 and not channels.ids(v)]
    missed += [f"{v.path} {tuple(v.shape)} keeps its shape: its layer has no rule" for v in matrices]
    if missed:
        more = f"; and {len(missed) - _MAX_NAMED} more" if missed[_MAX_NAMED:] else ""
        warnings.warn(
            f"slim makes only a part of {channels.model.name!r} smaller. {'; '.join(missed[:_MAX_NAMED])}{more}. All "
            "groups: print(tfsparse.Channels(model)).",
            stacklevel=3,
        )


class _Selection:
    """All channels in the order in which they are dropped."""

    def __init__(self, channels, score, multiple):
        self.channels, self._multiple = channels, multiple
        self._groups = [g for g in channels.groups if not g.frozen]
        if not self._groups:
            raise ValueError(
                f"No width of {channels.model.name!r} can change; print(tfsparse.Channels(model)) says why, group by "
                "group."
            )
        scores = [importance.scores(g, score) for g in self._groups]
        self._scores = [s / max(s.mean(), 1e-30) for s in scores]
        self._ranks = [np.argsort(importance.order(g, s)) for g, s in zip(self._groups, self._scores, strict=True)]
        self._order = np.sort(np.concatenate([s[r >= _smallest(g)] for g, s, r in self._by_group()]))

    def largest(self, cost, budget):
        """Return the `kept` array of the largest model within a budget, by bisection."""
        full = cost(self.channels, self.channels.keep_all())
        low, high = 0, len(self._order)
        least = cost(self.channels, self.kept(high))
        if least > budget * full:
            raise ValueError(
                f"With a tenth of the channels in every layer, the model still costs {least / full:.3f} of what it "
                f"costs now, more than {budget:g}. Pass a larger budget, or choose the widths yourself: "
                "tfsparse.shrink(model, keep={layer: number})."
            )
        while low < high:
            middle = (low + high) // 2
            if cost(self.channels, self.kept(middle)) <= budget * full:
                high = middle
            else:
                low = middle + 1
        return self.kept(high)

    def kept(self, num_dropped):
        """Return the `kept` array after the channels with the lowest scores are dropped."""
        limit = self._order[num_dropped - 1] if num_dropped else -np.inf
        kept = self.channels.keep_all()
        for group, scores, ranks in self._by_group():
            count = max(int(np.count_nonzero(scores > limit)), _smallest(group))
            kept[group.channels] = ranks < min(-(-count // self._multiple) * self._multiple, len(group))
        return kept[self.channels.roots]

    def _by_group(self):
        return zip(self._groups, self._scores, self._ranks, strict=True)


def _smallest(group):
    num_layers = len({id(axis.layer) for axis in group.outputs})
    return min(max(num_layers, int(np.ceil(_SMALLEST * len(group)))), len(group))


def _only_budget(budgets):
    given = {name: value for name, value in budgets.items() if value is not None}
    if len(given) != 1 or not 0 < next(iter(given.values())) < 1:
        raise ValueError(
            f"slim got {given or 'no budget'}: expected one of flops, parameters, sparsity or latency, a "
            "fraction between 0 and 1, for example slim(model, flops=0.5)."
        )
    ((name, value),) = given.items()
    return name, (1 - value if name == "sparsity" else value)


def _num_channels(channels, kept):
    return sum(int(np.count_nonzero(kept[g.channels])) for g in channels.groups if not g.frozen)


def _seconds(channels, kept):
    """Return the median time of one example on the model with the kept channels."""
    small = channels.model if kept.all() else shrink(channels.model, kept)
    examples = [np.zeros((1, *t.shape[1:]), keras.backend.standardize_dtype(t.dtype)) for t in small.inputs]
    times = []
    for _ in range(30):
        start = time.perf_counter()
        small.predict_on_batch(examples if len(examples) > 1 else examples[0])
        times.append(time.perf_counter() - start)
    return statistics.median(times[10:])


_COSTS = {"flops": Channels.macs, "parameters": Channels.parameters, "sparsity": _num_channels, "latency": _seconds}
