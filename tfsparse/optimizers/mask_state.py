"""The state of a `SparseOptimizer`: masks, targets and schedule position, all of them optimizer variables."""


import keras
import numpy as np
from keras import ops

from tfsparse.backend import keras_internals, replicas
from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers import nested_storage, slots
from tfsparse.optimizers.masked_weights import MaskedWeights
from tfsparse.pruners.magnitude import Magnitude
from tfsparse.pruners.selection import Bounds

_FORMER_KEYS = {"fault": "nonfinite"}  # of files from before version 0.1; extra state was called "memory"


class MaskState(MaskedWeights):
    """The masks of some weights, and how many entries of each are pruned.

        num_pruned = start + (target - start) * fraction

    Identity: after an update `zeros(mask) == num_pruned(fraction)`.

    Weights that `apply` never receives stay dense: as soon as it was called, `weights`, `masks` and counts are those of
    the others. The variables of all of them stay, and are saved, because their number must not change.

    Args:
        optimizer: The optimizer that owns the variables. It must be built on all trainable variables.
        targets: `{index of the trainable variable: entries to prune}`.
        groups: Which of the pruned weights the pruner sees together, as positions in `targets`.
        begin: The optimizer step before the first step of the schedule.
        total_steps: Length of the schedule in optimizer steps; 0: not known yet.
        bounds: For each weight its `Bounds` under a global threshold, or None.
    """

    def __init__(
        self,
        optimizer,
        targets: dict[int, int],
        groups: list[list[int]],
        begin: int,
        total_steps: int,
        bounds: list[Bounds | None],
    ):
        self._all_indices, self._all_groups, self._all_bounds = list(targets), groups, bounds
        self._trained, self._received = list(range(len(targets))), set()
        self._optimizer = optimizer
        self._slots = list(map(slots.finder(self.inner_optimizer, self.weights), self.weights))
        self._all_masks = [self.add_like(v, "mask", "ones", "uint8") for v in self.weights]
        self.target = self._add_variable("target", list(targets.values()), "int")
        self.start = self._add_variable("start", [0] * len(targets), "int")
        self.begin = self._add_variable("begin", begin, "int")
        self.total_steps = self._add_variable("total_steps", total_steps, "int")
        self.nonfinite = self._add_variable("nonfinite", -1, "int")
        self.extra_state = {}
        self._all_sums = []
        if self.pruner.accumulates:
            self._all_sums = [
                self.add_like(v, "sum", "zeros", "float32", self.pruner.sum_shape(tuple(v.shape))) for v in self.weights
            ]
        self.storage = nested_storage.for_optimizer(optimizer)(self)

    @property
    def pruner(self):
        return self._optimizer.pruner

    @property
    def schedule(self):
        """The schedule of the optimizer."""
        return self._optimizer.schedule

    @property
    def indices(self) -> list[int]:
        """Index of each weight among the variables that the optimizer trains."""
        return self.of_trained(self._all_indices)

    @property
    def groups(self):
        position = {p: new for new, p in enumerate(self._trained)}
        groups = ([position[p] for p in group if p in position] for group in self._all_groups)
        return [group for group in groups if group]

    @property
    def bounds(self):
        return self.of_trained(self._all_bounds)

    @property
    def full_sparsity(self):
        return self._optimizer.sparsity

    @property
    def masks(self):
        return self.of_trained(self._all_masks)

    @property
    def sums(self) -> list:
        """For a pruner that accumulates one variable per weight, of the shape that `pruner.sum_shape` returns."""
        return self.of_trained(self._all_sums) if self._all_sums else []

    @property
    def weights(self):
        # looked up each time: model variables in an attribute of an optimizer would become the optimizer's own
        variables = keras_internals.trained_variables(self._optimizer)
        return [variables[i] for i in self.indices]

    @property
    def inner_optimizer(self):
        """The optimizer that makes the steps."""
        return self._optimizer.inner_optimizer

    def slots(self, index):
        return self.of_trained(self._slots)[index]

    def num_steps(self):
        return backend_ops.to_int(self._optimizer.iterations)

    # ---- weights that are never trained -----------------------------------------------------------------------------

    def receive(self, indices) -> None:
        """Note which variables `apply` got gradients of; all that it never got stay dense.

        It is called when a step is traced, or at every eager step. On JAX a step always gets all variables.
        """
        self._received.update(indices)
        self._trained = [p for p, i in enumerate(self._all_indices) if i in self._received]

    def leave_dense(self, indices) -> None:
        """Leave variables dense, given by their indices, until `apply` gets them."""
        self._trained = [p for p, i in enumerate(self._all_indices) if i not in indices]

    @property
    def untrained(self) -> list[int]:
        """The indices of variables that would have been pruned and that `apply` never got."""
        return [i for p, i in enumerate(self._all_indices) if p not in self._trained]

    def of_trained(self, items: list) -> list:
        return [items[p] for p in self._trained]

    # ---- variables --------------------------------------------------------------------------------------------------

    def add_like(self, variable, name: str, initializer, dtype=None, shape=None):
        """Add a variable of the shape of a pruned weight, or another, to the optimizer; it is equal on all replicas."""
        shape = tuple(variable.shape) if shape is None else shape
        return self._optimizer.add_variable(
            shape,
            initializer=initializer,
            dtype=dtype or variable.dtype,
            aggregation="only_first_replica",  # "none" diverges silently, "mean" makes masks of 0.5
            layout=keras_internals.layout(variable) if shape == tuple(variable.shape) else None,
            name=f"{variable.path.replace('/', '_')}_{name}",
        )

    def add_extra_state(self, values: dict) -> None:
        """Add float32 variables that are saved with the masks: `{name: initial value}`."""
        for name, value in values.items():
            self.extra_state[name] = self._add_variable(name, value, "float32")

    def _add_variable(self, name, value, dtype):
        return self._optimizer.add_variable(
            np.shape(value),
            initializer=keras.initializers.Constant(np.asarray(value)),
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )

    # ---- updates ----------------------------------------------------------------------------------------------------

    def num_pruned(self, fraction):
        """Return the entries to prune of each weight, an integer tensor: exactly the target at fraction 1.

        With a global scope the sum of a group is what is rounded.
        """
        start, target = (ops.cast(backend_ops.read(v), "int32") for v in (self.start, self.target))
        if len(self._trained) < len(self._all_masks):
            start, target = (ops.take(v, self._trained) for v in (start, target))
        moved = fraction * ops.cast(target - start, "float32")
        if self.pruner.is_global:
            moved = self._rounded_in_groups(moved)
        return ops.where(fraction >= 1.0, target, start + ops.cast(ops.round(moved), "int32"))

    def _rounded_in_groups(self, counts):
        """Return whole numbers near the counts, whose sum in each group is the rounded sum of the group."""
        rounded = self.in_groups(lambda n: ops.unstack(_rounded_together(ops.stack(n))), ops.unstack(counts))
        return ops.stack([n for _, n in sorted(rounded, key=lambda pair: pair[0])])

    def target_counts(self) -> np.ndarray:
        """Return the entries to prune of each weight at the end, read now."""
        return np.array(ops.convert_to_numpy(self.target))[self._trained]

    def start_counts(self) -> np.ndarray:
        """Return the entries of each weight that were zero before the schedule, read now."""
        return np.array(ops.convert_to_numpy(self.start))[self._trained]

    def set_target_counts(self, counts) -> None:
        """Set the entries to prune of each weight at the end."""
        target = np.array(ops.convert_to_numpy(self.target))
        target[self._trained] = counts
        self.target.assign(target)

    def assigned(self) -> list:
        """Return all variables that `update` assigns, and those of weights that it reads."""
        return [*self.masks, *self.storage.assigned(), *self.sums, self.nonfinite]

    def accumulate(self, gradients) -> None:
        """Add a step to the sums, before the inner optimizer makes it. In cross-replica context."""
        sums = self.sums
        old, weights, masks = ([*map(backend_ops.read, variables)] for variables in (sums, self.weights, self.masks))
        new = self.in_groups(self.pruner.accumulate, old, weights, gradients, masks)
        backend_ops.make_in_turn(replicas.assign(sums[i], total) for i, total in new)

    def update(self, gradients, num_pruned, pruner=None):
        weights = self.storage.weights_to_rank()
        self._find_nonfinite(weights)
        self._set_masks(weights, [*map(backend_ops.read, self.sums)] or gradients, num_pruned, pruner)

    def rank_written_weights(self) -> None:
        """Compute masks of as many zeros as now for weights that were written outside of training."""
        num_zeros = self.zeros_of_each()
        self.storage.start_from_weights()
        for mask, weight in zip(self.masks, self.weights, strict=True):
            replicas.assign(mask, ops.cast(backend_ops.read(weight) != 0, mask.dtype))
        self.update(None, num_zeros, _by_magnitude(self.pruner))
        self.apply()

    def _find_nonfinite(self, weights):
        """Store the index of the first weight with NaN or infinity, or -1: a compiled step cannot raise."""
        wrong = ops.logical_not(_are_finite(weights))
        first = ops.where(ops.any(wrong), ops.argmax(ops.cast(wrong, "int32")), -1)
        replicas.assign(self.nonfinite, ops.cast(first, self.nonfinite.dtype))

    def has_nonfinite_weights(self) -> bool:
        """Return whether a weight holds NaN or infinity now."""
        return not bool(ops.all(_are_finite(map(backend_ops.read, self.weights))))

    def raise_nonfinite(self, step: int) -> None:
        """Refuse masks that were computed from NaN or infinity.

        Raises:
            ValueError: If a weight held NaN or infinity at the last update.
        """
        index = backend_ops.to_int(self.nonfinite)
        if index >= 0:
            raise ValueError(
                f"{self.weights[index].path} holds NaN or infinity at step {step}, so its weights cannot be ranked. "
                "Training diverged: lower the learning rate or clip gradients, and restart from the last checkpoint."
            )

    def _dependents(self):
        return [*super()._dependents(), *self.sums, self.nonfinite]

    def continue_from(self, other: "MaskState") -> None:
        """Copy the masks of another state of the same variables; the schedule starts at their zeros."""
        theirs = {id(v): index for index, v in enumerate(other.weights)}
        start = np.array(ops.convert_to_numpy(self.start))
        for index, variable in enumerate(self.weights):
            if id(variable) in theirs:
                self._copy_mask(index, other, theirs[id(variable)])
                start[index] = int(np.sum(ops.convert_to_numpy(self.masks[index]) == 0))
        self.start.assign(start)

    def _copy_mask(self, index, other, theirs):
        self.masks[index].assign(ops.convert_to_numpy(other.masks[theirs]))
        if self.storage.dense_weights and other.storage.dense_weights:
            self.storage.dense_weights[index].assign(
                ops.convert_to_numpy(other.of_trained(other.storage.dense_weights)[theirs])
            )
        if self.sums and type(self.pruner) is type(other.pruner):
            self.sums[index].assign(ops.convert_to_numpy(other.sums[theirs]))

    # ---- files ------------------------------------------------------------------------------------------------------

    def _by_key(self) -> dict:
        """Variables by the key in a file. Keys have no layer names: these may differ when the file is loaded."""
        counts = (self.target, self.start, self.begin, self.total_steps, self.nonfinite)
        masks = {f"mask_{i}": mask for i, mask in enumerate(self._all_masks)}
        dense = {f"dense_{i}": weight for i, weight in enumerate(self.storage.dense_weights)}
        sums = {f"sum_{i}": total for i, total in enumerate(self._all_sums)}
        extra = {f"extra_{name}": v for name, v in self.extra_state.items()}
        return masks | dense | sums | {v.name: v for v in counts} | extra

    def save(self, store) -> None:
        """Write all variables to a mapping of keys to arrays."""
        for key, variable in self._by_key().items():
            store[key] = variable.numpy()

    def fits(self, store) -> bool:
        """Return whether a mapping of keys to arrays has all variables of this state, and no others."""
        own, saved = self._by_key(), _by_present_key(store)
        return set(own) == set(saved) and all(tuple(saved[k].shape) == tuple(v.shape) for k, v in own.items())

    def load(self, store) -> None:
        """Read all variables from a mapping of keys to arrays.

        Raises:
            ValueError: If the file has no masks for these weights.
        """
        own, saved = self._by_key(), _by_present_key(store)
        if not self.fits(store):
            raise ValueError(
                f"This file has no masks for the optimizer's {len(self.masks)} pruned weights: it was saved by another "
                "optimizer, or with other weights pruned. Load it before pruning is set up: model.load_weights(path), "
                "then model.compile(...) and fit(..., callbacks=[tfsparse.Prune(...)])."
            )
        for key, variable in own.items():
            variable.assign(np.asarray(saved[key]).astype(variable.dtype))  # masks of before are floats


def _are_finite(weights):
    """Return for each weight whether all of it is finite, by its sum: one pass, and no tensor of its size."""
    return ops.isfinite(ops.stack([ops.sum(ops.cast(w, "float32")) for w in weights]))


def _rounded_together(values):
    """Return whole numbers near the values, whose sum is the rounded sum of the values."""
    even = 2 * ops.floor(values / 2)
    rest = ops.round(ops.cumsum(values - even))  # float32 would not add up large values exactly
    return even + rest - ops.pad(rest, ((1, 0),))[:-1]


def _by_magnitude(pruner):
    """Return the pruner if it ranks by the weights alone, else one that ranks the same units by their magnitudes."""
    if pruner.monotone and not pruner.needs_gradients and not pruner.needs_calibration:
        return pruner
    return Magnitude(**{name: getattr(pruner, name) for name in ("granularity", "scope") if hasattr(pruner, name)})


def _by_present_key(store) -> dict:
    """Return a mapping of keys to arrays with the keys that are used now."""
    return {_present_key(key): store[key] for key in store.keys()}  # noqa: SIM118  no dict


def _present_key(key: str) -> str:
    return _FORMER_KEYS.get(key, key.replace("memory_", "extra_", 1) if key.startswith("memory_") else key)
