"""Which channels are one: ids, tied to each other and frozen."""

import numpy as np


class Ties:
    """Ids of channels, of which some are tied (they live and die together) and some are frozen (they stay).

    >>> ties = Ties(); a, b = ties.fresh(3), ties.fresh(3); ties.tie(a, b); ties.roots(b).tolist()
    [0, 1, 2]
    """

    def __init__(self):
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def __len__(self):
        return len(self._parents)

    def fresh(self, count: int, frozen: str | None = None) -> np.ndarray:
        """So many new ids; frozen ones if a reason is given."""
        ids = np.arange(len(self), len(self) + count)
        self._parents.extend(ids.tolist())
        if frozen:
            self.freeze(ids, frozen)
        return ids

    def tie(self, ids, others) -> None:
        """Tie each id to its counterpart; a frozen one freezes the other."""
        for one, other in zip(np.ravel(ids).tolist(), np.ravel(others).tolist(), strict=True):
            one, other = sorted((self._root(one), self._root(other)))
            self._parents[other] = one
            if other in self._reasons:
                self._reasons.setdefault(one, self._reasons.pop(other))

    def freeze(self, ids, reason: str) -> None:
        """These stay as they are; the first reason is the one that is told."""
        for one in np.ravel(ids).tolist():
            self._reasons.setdefault(self._root(one), reason)

    def reason(self, ids) -> str | None:
        """Why the first frozen one of these is frozen."""
        return next((self._reasons[root] for root in map(self._root, ids) if root in self._reasons), None)

    def roots(self, ids) -> np.ndarray:
        """The one id that stands for each and all it is tied to."""
        return np.array([self._root(one) for one in np.ravel(ids).tolist()], int).reshape(np.shape(ids))

    def _root(self, one):
        parents = self._parents
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one
