"""Which channel ids stand for the same channel: union-find over ids."""

import numpy as np


class UnionFind:
    """Disjoint sets of channel ids. The channels of one set are kept or dropped together; a frozen set is always kept.

    Examples:
        >>> sets = UnionFind(); a, b = sets.make_sets(3), sets.make_sets(3); sets.union(a, b); sets.find(b).tolist()
        [0, 1, 2]
    """

    def __init__(self):
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def __len__(self):
        return len(self._parents)

    def make_sets(self, count: int, frozen: str | None = None) -> np.ndarray:
        """Return new ids, each in a set of its own; frozen ones if a reason is given."""
        ids = np.arange(len(self), len(self) + count)
        self._parents.extend(ids.tolist())
        if frozen:
            self.freeze(ids, frozen)
        return ids

    def union(self, ids, others) -> None:
        """Join the set of each id with that of its counterpart; if one is frozen, the joined set is."""
        for id_, other in zip(np.ravel(ids).tolist(), np.ravel(others).tolist(), strict=True):
            root, child = sorted((self._root(id_), self._root(other)))
            self._parents[child] = root
            if child in self._reasons:
                self._reasons.setdefault(root, self._reasons.pop(child))

    def freeze(self, ids, reason: str) -> None:
        """Freeze the sets of these ids; a set keeps its first reason."""
        for id_ in np.ravel(ids).tolist():
            self._reasons.setdefault(self._root(id_), reason)

    def frozen_reason(self, ids) -> str | None:
        """Return why the first frozen one of these ids is frozen, or None."""
        return next((self._reasons[root] for root in map(self._root, ids) if root in self._reasons), None)

    def find(self, ids) -> np.ndarray:
        """Return for each id the representative of its set."""
        return np.array([self._root(id_) for id_ in np.ravel(ids).tolist()], int).reshape(np.shape(ids))

    def _root(self, id_):
        parents = self._parents
        while parents[id_] != id_:
            parents[id_] = parents[parents[id_]]
            id_ = parents[id_]
        return id_
