"""What a `SparseOptimizer` remembers: masks, targets and the place in the schedule, all of them optimizer variables."""

import keras
import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.consistency import checks
from tfsparse.optimizers import weight_storage


class MaskState:
    """The masks of some weights and how far they are to be pruned; identity: `0 <= zeros(mask) == counts(fraction)`.

        counts = start + (target - start) * fraction

    Args:
        optimizer: the optimizer that owns the variables, built on all trainable variables.
        targets: `{place among the trainable variables: entries to prune}`.
        groups: which of the pruned weights the pruner sees together, as positions in `targets`.
        begin, total_steps: first step and length of the schedule, in optimizer steps.
    """

    def __init__(self, optimizer, targets: dict[int, int], groups: list[list[int]], begin: int, total_steps: int):
        self.places, self.groups = list(targets), groups
        self._optimizer = optimizer
        self.masks = [self.add_like(v, "mask", "ones") for v in self.variables]
        self.target = self._add_counts("target", list(targets.values()))
        self.start = self._add_counts("start", [0] * len(targets))
        self.begin = self._add_counts("begin", begin)
        self.total_steps = self._add_counts("total_steps", total_steps)
        self.nonfinite = self._add_counts("fault", -1)
        self.extra_state = {}
        self.storage = weight_storage.of(optimizer.pruner)(self, optimizer.pruner)

    @property
    def variables(self) -> list:
        """The pruned variables, in the order of masks and targets."""
        # looked up, not kept: model variables in an attribute of an optimizer would become the optimizer's
        return [self._optimizer._trainable_variables[i] for i in self.places]

    @property
    def inner_optimizer(self):
        """The optimizer that makes the steps."""
        return self._optimizer.inner_optimizer

    def add_like(self, variable, name, initializer):
        """A new variable of the optimizer with the shape of a pruned weight, equal on all replicas."""
        return self._optimizer.add_variable(
            variable.shape,
            initializer=initializer,
            dtype=variable.dtype,
            aggregation="only_first_replica",  # "none" diverges silently, "mean" makes halves
            layout=getattr(variable, "_layout", None),
            name=f"{variable.path.replace('/', '_')}_{name}",
        )

    def add_extra_state(self, values: dict) -> None:
        """More variables that are saved with the masks: `{name: initial value}`."""
        for name, value in values.items():
            self.extra_state[name] = self._add_values(name, value, "float32")

    def _add_counts(self, name, value):
        return self._add_values(name, value, "int")

    def _add_values(self, name, value, dtype):
        return self._optimizer.add_variable(
            np.shape(value),
            initializer=keras.initializers.Constant(np.asarray(value)),
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )

    def slots(self, position: int) -> list:
        """The inner optimizer's state of one pruned weight: Keras keeps it in lists parallel to the variables."""
        index, all_variables = self.places[position], self._optimizer._trainable_variables
        variable = all_variables[index]
        lists = [v for v in vars(self.inner_optimizer).values() if isinstance(v, (list, tuple))]
        found = [items[index] for items in lists if len(items) == len(all_variables)]
        return [s for s in found if isinstance(s, keras.Variable) and s is not variable and s.shape == variable.shape]

    def all_slots(self) -> list:
        """The slots of all pruned weights."""
        return [slot for position in range(len(self.masks)) for slot in self.slots(position)]

    def assigned(self) -> list:
        """All variables that `update` assigns, and those of weights that it reads."""
        return [*self.masks, *self.storage.assigned(), self.nonfinite]

    def counts(self, fraction):
        """Entries to prune at this fraction of the target: integers, and exactly the target at 1."""
        start, target = ops.cast(backend_ops.read(self.start), "int32"), ops.cast(backend_ops.read(self.target), "int32")
        moved = ops.cast(ops.round(fraction * ops.cast(target - start, "float32")), "int32")
        return ops.where(fraction >= 1.0, target, start + moved)

    def update(self, pruner, gradients, counts) -> None:
        """New masks, from the weights that lived by the old ones (or live on dense_weights).

        Args:
            gradients: list of tensors, or None for a pruner that needs none.
        """
        weights, old = self.storage.weights_to_rank(), [backend_ops.read(m) for m in self.masks]
        self._find_nonfinite(weights)
        new = self.in_groups(pruner.masks, weights, gradients or [None] * len(old), old, counts)
        for mask, value in zip(self.masks, new, strict=True):
            replicas.assign(mask, value)

    def in_groups(self, function, *values) -> list:
        """`function(*values)` for the weights of each group together: lists with one entry per weight, in and out."""
        results = [None] * len(self.masks)
        for group in self.groups:
            for position, result in zip(group, function(*([v[p] for p in group] for v in values)), strict=True):
                results[position] = result
        return results

    def empty_slots(self) -> None:
        """Slots of what is pruned now are emptied."""
        for position, mask in enumerate(self.masks):
            for slot in self.slots(position):
                replicas.update(slot, backend_ops.masked, mask)

    def _find_nonfinite(self, weights):
        """Remember the first weight that holds NaN or infinity: a compiled step cannot raise."""
        sums = ops.stack([ops.sum(ops.cast(w, "float32")) for w in weights])
        faulty = ops.logical_not(ops.isfinite(sums))
        first = ops.where(ops.any(faulty), ops.argmax(ops.cast(faulty, "int32")), -1)
        replicas.assign(self.nonfinite, ops.cast(first, self.nonfinite.dtype))

    def raise_nonfinite(self, step: int) -> None:
        """Raise ValueError if a weight held NaN or infinity at the last update."""
        position = backend_ops.number(self.nonfinite)
        if position >= 0:
            raise ValueError(
                f"{self.variables[position].path} holds NaN or infinity at step {step}, so its "
                "weights cannot be ranked. Training diverged: lower the learning rate or clip gradients, and restart "
                "from the last checkpoint."
            )

    def check_replicas(self, on_divergence, sync_stats) -> None:
        """Compare the masks of all replicas; a repair takes masks, weights and slots from the first one."""
        names = [v.path for v in self.variables]
        checks.check_masks(self.masks, names, on_divergence, self._dependents, sync_stats)

    def _dependents(self):
        return [*self.variables, *self.masks, *self.all_slots(), *self.storage.dense_weights, self.nonfinite]

    def continue_from(self, other: "MaskState") -> None:
        """Take over the masks of another state of the same variables and start from their zeros."""
        places = {id(v): p for p, v in enumerate(other.variables)}
        start = ops.convert_to_numpy(self.start).copy()
        for position, variable in enumerate(self.variables):
            if id(variable) in places:
                self._continue_from(position, other, places[id(variable)])
                start[position] = int(np.sum(ops.convert_to_numpy(self.masks[position]) == 0))
        self.start.assign(start)

    def _continue_from(self, position, other, theirs):
        self.masks[position].assign(ops.convert_to_numpy(other.masks[theirs]))
        if self.storage.dense_weights and other.storage.dense_weights:
            self.storage.dense_weights[position].assign(ops.convert_to_numpy(other.storage.dense_weights[theirs]))

    def named(self) -> dict:
        """Variables by role: the names of layers may differ between the model that saved and the one that loads."""
        counts = (self.target, self.start, self.begin, self.total_steps, self.nonfinite)
        masks = {f"mask_{p}": m for p, m in enumerate(self.masks)}
        dense_weights = {f"dense_{p}": d for p, d in enumerate(self.storage.dense_weights)}
        extra_state = {f"memory_{name}": v for name, v in self.extra_state.items()}
        return masks | dense_weights | {v.name: v for v in counts} | extra_state

    def save(self, store) -> None:
        """Write all of it to a mapping of names to arrays."""
        for name, variable in self.named().items():
            store[name] = variable.numpy()

    def load(self, store) -> None:
        """The reverse.

        Raises: ValueError if the file has no masks for these weights, instead of pruning with wrong ones.
        """
        own = self.named()
        if set(own) != set(store.keys()) or any(tuple(store[k].shape) != tuple(v.shape) for k, v in own.items()):
            raise ValueError(
                f"This file has no masks for the optimizer's {len(self.masks)} pruned weights: it was saved by another "
                "optimizer, or with other weights pruned. Load it before pruning is set up: model.load_weights(path), "
                "then model.compile(...) and fit(..., callbacks=[tfsparse.Prune(...)])."
            )
        for name, variable in own.items():
            variable.assign(store[name])
