"""Which channels to drop so that a budget is met."""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from tfsparse.structured import importance
from tfsparse.structured.channels import Channels
from tfsparse.structured.shrinking import shrink

_LEAST = 0.1  # of every layer's channels: a layer that is cut to almost nothing cuts the network in two


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
    """A smaller model within a budget: the channels worth least, compared over all groups, are dropped first.

        worth = score / mean score of the group
        drop the lowest until cost(what is left) <= budget * cost(model)

    Its accuracy falls at once and comes back by training on; see `ActivationDensity` for shrinking while training.

    Args:
        model: Functional or Sequential, built.
        flops, parameters, sparsity, latency: one of them, a fraction in (0, 1): of multiply-adds per example; of
            trainable parameters; of channels that are dropped; of the time of one example (measured here, now).
        score: "l2", "l1", "gamma" or a function `group -> one number per channel`.
        multiple: round numbers of channels up to a multiple of this (8 suits most hardware).

    Every layer keeps a tenth of its channels. Raises: ValueError for a budget that cannot be met that way.

    >>> small = tfsparse.slim(model, flops=0.5); small.fit(x, y, epochs=10)
    """
    asked = {"flops": flops, "parameters": parameters, "sparsity": sparsity, "latency": latency}
    name, budget = _only(asked)
    plan = _Plan(Channels(model), score, multiple)
    return shrink(model, plan.within(_COSTS[name], budget))


class _Plan:
    """Channels in the order in which they go; `alive(number)` is what is left when so many have gone."""

    def __init__(self, graph, score, multiple):
        self.graph, self._multiple = graph, multiple
        self._groups = [g for g in graph.groups if not g.frozen]
        if not self._groups:
            raise ValueError(
                f"No width of {graph.model.name!r} can change; print(tfsparse.Channels(model)) says why, group by "
                "group."
            )
        worth = [importance.scores(g, score) for g in self._groups]
        self._worth = [w / max(w.mean(), 1e-30) for w in worth]
        self._ranks = [np.argsort(importance.order(g, w)) for g, w in zip(self._groups, self._worth, strict=True)]
        spread = np.concatenate([w[r >= self._least(g)] for g, w, r in self._parts()])
        self._order = np.sort(spread)

    def within(self, cost, budget):
        """`alive` of the largest network within a budget, by bisection."""
        full, low, high = cost(self.graph, self.graph.everything()), 0, len(self._order)
        if cost(self.graph, self.alive(high)) > budget * full:
            raise ValueError(
                f"With a tenth of the channels in every layer the model still costs "
                f"{cost(self.graph, self.alive(high)) / full:.3f} of what it does now, more than {budget:g}: ask for "
                "more than that, or name the widths yourself with tfsparse.shrink(model, keep={layer: number})."
            )
        while low < high:
            middle = (low + high) // 2
            if cost(self.graph, self.alive(middle)) <= budget * full:
                high = middle
            else:
                low = middle + 1
        return self.alive(high)

    def alive(self, number):
        """What is left when so many channels have gone, worst first."""
        limit = self._order[number - 1] if number else -np.inf
        alive = self.graph.everything()
        for group, worth, ranks in self._parts():
            count = max(int(np.count_nonzero(worth > limit)), self._least(group))
            count = min(-(-count // self._multiple) * self._multiple, len(group))
            alive[group.channels] = ranks < count
        return alive[self.graph.roots]

    def _parts(self):
        return zip(self._groups, self._worth, self._ranks, strict=True)

    def _least(self, group):
        makers = {id(s.layer) for s in group.outputs}
        return min(max(len(makers), int(np.ceil(_LEAST * len(group)))), len(group))


def _only(asked):
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) != 1 or not 0 < (value := next(iter(given.values()))) < 1:
        raise ValueError(
            f"slim was given {given or 'no budget'}: expected one of flops, parameters, sparsity or latency, a "
            "fraction between 0 and 1, for example slim(model, flops=0.5)."
        )
    name = next(iter(given))
    return name, (1 - value if name == "sparsity" else value)


def _channels(graph, alive):
    return sum(int(np.count_nonzero(alive[g.channels])) for g in graph.groups if not g.frozen)


def _seconds(graph, alive):
    """The median time of one example, of the model as it would be."""
    small = graph.model if alive.all() else shrink(graph.model, alive)
    examples = [np.zeros((1, *t.shape[1:]), keras.backend.standardize_dtype(t.dtype)) for t in small.inputs]
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        small.predict_on_batch(examples if len(examples) > 1 else examples[0])
        times.append(time.perf_counter() - begun)
    return statistics.median(times[10:])


_COSTS = {
    "flops": lambda graph, alive: graph.macs(alive),
    "parameters": lambda graph, alive: graph.parameters(alive),
    "sparsity": _channels,
    "latency": _seconds,
}
