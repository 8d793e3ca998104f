"""The optimizer that keeps the masks true."""

import math

import keras
import numpy as np
from keras import ops

from tfsparse import pruners, schedules
from tfsparse.backend import ops as backend_ops
from tfsparse.backend import replicas
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.masks import topk
from tfsparse.optimizers.mask_state import MaskState
from tfsparse.optimizers.validation import check_inner, check_total_steps
from tfsparse.optimizers.wrapper import OptimizerWrapper
from tfsparse.pruners import selection


@keras.saving.register_keras_serializable(package="tfsparse")
class SparseOptimizer(OptimizerWrapper):
    """Wraps any Keras optimizer so that after every step `weight == weight * mask`.

        inner_optimizer.apply(gradients)
        if schedule.due(step, total_steps):
            sparsity = start + (target - start) * schedule(step / total_steps)
            weights, slots = weights * masks, slots * masks     # a weight that returns starts from zero
            masks = pruner.masks(weights, gradients, masks, sparsity)
        weights = weights * masks

    The masks, the target of every weight and the schedule's position are variables of the optimizer: whatever saves the
    optimizer saves them, and a compiled step sees what is written to them.

    Args:
        inner_optimizer: a Keras optimizer, its name or its config. `LossScaleOptimizer` goes outside, not inside.
        pruner, schedule: instance, name or config, see `tfsparse.pruners` and `tfsparse.schedules`.
        sparsity: target in [0, 1) for each kernel (`scope="layer"`) or for all kernels together (`scope="global"`).
        total_steps: optimizer steps over which the schedule runs, at least 2; `tfsparse.Prune` takes it from `fit`.

    Raises: ValueError for a sparsity, an optimizer or a number of steps that cannot work, saying what to write.

    >>> optimizer = SparseOptimizer("adam", "one_cycle", sparsity=0.9, total_steps=10_000)
    >>> model.compile(optimizer, loss="mse")
    """

    def __init__(
        self, inner_optimizer, schedule="one_cycle", sparsity=0.5, pruner="magnitude", *, total_steps=None, name=None
    ):
        inner = check_inner(keras.optimizers.get(inner_optimizer))
        super().__init__(inner, name or f"sparse_{inner.name}")
        self.pruner, self.schedule = pruners.get(pruner), schedules.get(schedule)
        self.sparsity = selection.check_sparsity(sparsity)
        self._asked = selection.Overrides()
        self._total = check_total_steps(total_steps)
        self._extra_state_shapes = {}
        self.sync_stats = SyncStats()

    # ---- what is pruned, and how far --------------------------------------------------------------------------------

    def set_sparsity(self, variable, sparsity: float) -> None:
        """The target of one variable (or of the kernels of one layer) instead of the common one.

        Before the optimizer is built this also includes variables that are not pruned by default; after, a compiled
        training step sees the new target at its next mask update.
        """
        sparsity = selection.check_sparsity(sparsity)
        for v in selection.kernels(variable):
            if not self.built:
                self._asked.set(v, sparsity)
                continue
            position = self._position(v)
            if self.pruner.is_global and [position] not in self._state.groups:
                raise ValueError(
                    f"{v.path} shares one global target with other weights. Call set_sparsity before the optimizer is "
                    'built, or prune with scope="layer".'
                )
            targets = ops.convert_to_numpy(self.target).copy()
            targets[position] = self.pruner.num_prunable(tuple(v.shape), sparsity)
            self.target.assign(targets)

    def exclude_from_pruning(self, var_list=None, var_names=None) -> None:
        """Leave variables (or all kernels of layers) dense: by object, or by words that occur in their paths."""
        if self.built:
            raise ValueError("exclude_from_pruning must be called before the optimizer is built, as for weight decay.")
        for item in var_list or []:
            for v in selection.kernels(item):
                self._asked.set(v, None)
        self._asked.words += list(var_names or [])

    def mask(self, variable):
        """The mask of a variable: 1 lives, 0 is pruned.

        Raises: ValueError if the variable is not pruned.
        """
        return self._state.masks[self._position(variable)]

    @property
    def pruned_variables(self) -> list:
        """The variables that have a mask, in the order of `masks` and `target`."""
        return self._state.variables

    @property
    def masks(self) -> list:
        """All masks."""
        return list(self._state.masks)

    @property
    def target(self):
        """Integer variable: entries to prune of each weight at the end; a compiled step sees what is written to it."""
        return self._state.target

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps over which the schedule runs."""
        return (backend_ops.number(self._state.total_steps) or None) if self.built else self._total

    def set_total_steps(self, steps: int) -> None:
        """Lay the schedule over `steps` optimizer steps. (No setter: Keras skips one whose value is there already.)"""
        self._total = check_total_steps(steps)
        if self.built:
            self._state.total_steps.assign(self._total)

    @property
    def steps_done(self) -> int:
        """Steps of the schedule that lie behind."""
        return backend_ops.number(self.iterations) - backend_ops.number(self._state.begin)

    def current_sparsity(self) -> float:
        """Zeros in all masks over the entries of all pruned variables, counted now."""
        return self.zeros() / sum(math.prod(v.shape) for v in self.pruned_variables)

    def zeros(self) -> int:
        """Zeros in all masks, counted now."""
        return sum(int(np.sum(ops.convert_to_numpy(mask) == 0)) for mask in self.masks)

    def _position(self, variable) -> int:
        index = self._get_variable_index(variable)
        if index not in self._state.places:
            raise ValueError(
                f"{variable.path} is not pruned. Include it with set_sparsity before the optimizer is built."
            )
        return self._state.places.index(index)

    # ---- the step ---------------------------------------------------------------------------------------------------

    def build(self, variables):
        """Create masks and targets for `variables`; the inner optimizer is built too unless it lives already."""
        if self.built:  # a LossScaleOptimizer builds what it wraps once more
            return
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)
        targets = self._asked.resolve(variables, self.pruner, self.sparsity)
        alone = [p for p, i in enumerate(targets) if self.pruner.is_global and self._asked.fixed(i)]
        together = [p for p in range(len(targets)) if p not in alone]
        groups = [group for group in [together, *[[p] for p in alone]] if group]
        self._state = MaskState(self, targets, groups, backend_ops.number(self.iterations), self._total or 0)
        self._state.add_extra_state({name: np.zeros(shape) for name, shape in self._extra_state_shapes.items()})

    def add_extra_state(self, values: dict) -> None:
        """Add variables to what is saved with the masks: `{name: initial value}`, float32; see `extra_state`. Only before
        the first step, or together with a second `compile`: a compiled step knows its variables."""
        self._state.add_extra_state(values)

    @property
    def extra_state(self) -> dict:
        """`{name: variable}` of what `add_extra_state` was asked for; the optimizer itself uses none of it."""
        return dict(self._state.extra_state) if self.built else {}

    def continue_from(self, other: "SparseOptimizer") -> None:
        """Begin a new cycle where `other` stands: its masks stay, and the schedule runs from them to the new target."""
        self._state.continue_from(other._state)

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if not self.built:
            with keras.name_scope(self.name):
                self.build(variables)
        if not self._total:
            raise ValueError(
                "SparseOptimizer does not know how long training is. Write SparseOptimizer(..., total_steps=10_000), "
                "or leave it to fit with callbacks=[tfsparse.Prune(...)]."
            )
        places, storage = [self._get_variable_index(v) for v in variables], self._state.storage
        gradients = self._global_where_scored(dict(zip(places, grads, strict=True)))
        before = backend_ops.read(self.iterations)
        storage.before_step()
        self.inner_optimizer.apply(list(storage.gradients(gradients).values()), variables)
        replicas.once(self._keep_true, before, self._scored(gradients))
        if not backend_ops.is_symbolic(before):
            self.raise_nonfinite()

    def _global_where_scored(self, gradients):
        """Gradients by place: this replica's share of the global ones where the pruner scores them."""
        places = [i for i in self._state.places if gradients.get(i) is not None]
        if not self.pruner.needs_gradients:
            return gradients
        shares = map(replicas.share, replicas.global_gradients([gradients[i] for i in places]))
        return gradients | dict(zip(places, shares, strict=True))

    def _scored(self, gradients):
        """The gradients that the pruner scores; a weight that got none has zeros."""
        if not self.pruner.needs_gradients:
            return []
        pairs = [(gradients.get(i), v) for i, v in zip(self._state.places, self.pruned_variables, strict=True)]
        return [ops.zeros(v.shape, v.dtype) if g is None else g for g, v in pairs]

    def _keep_true(self, before, gradients):
        state, iterations = self._state, backend_ops.read(self.iterations)
        step, total = iterations - backend_ops.read(state.begin), backend_ops.read(state.total_steps)
        state.storage.after_step()
        due = ops.logical_and(state.storage.due(self.schedule, step, total), ops.not_equal(iterations, before))
        # read here, not in the branch: there a branch of JAX knows only the variables it assigns
        pruner, counts = self.pruner.at_step(step, total), state.counts(self.schedule.fraction(step, total))
        backend_ops.when(due, lambda: state.update(pruner, gradients, counts), state.assigned())
        state.storage.apply()

    def raise_nonfinite(self) -> None:
        """Raise ValueError if a weight held NaN or infinity at the last mask update: its mask would mean nothing."""
        self._state.raise_nonfinite(self.steps_done)

    def check_replicas(self, on_divergence: str = "raise") -> None:
        """Compare the masks of all replicas, as `tfsparse.consistency.checks.check_masks` does; `sync_stats` counts the bytes."""
        self._state.check_replicas(on_divergence, self.sync_stats)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)
        if self.use_ema:  # averages have overwritten the weights: masks come last
            self.apply_masks()

    def apply_masks(self) -> None:
        """`weight = weight * mask` now, for weights that were written to from outside. What was written of weights that
        live on dense_weights is what they are from now on."""
        with replicas.strategy_scope(self):
            self._state.storage.accept_external_writes()
            self._state.storage.apply()

    def prune_now(self) -> None:
        """Go to the target at once, whatever the schedule says; for the end of a training that stopped early."""
        if self.pruner.needs_gradients:
            raise ValueError(
                f"{self.pruner!r} needs gradients and there are none outside a training step. Train to the end of the "
                'schedule, or prune now with tfsparse.prune(model, sparsity, pruner="magnitude").'
            )
        counts = self._state.counts(ops.convert_to_tensor(self.schedule.final))
        with replicas.strategy_scope(self):
            self._state.update(self.pruner, None, counts)
            self._state.storage.apply()
        self.raise_nonfinite()

    def prune_to(self, zeros: int) -> None:
        """Prune now, up to `zeros` entries of all weights together (scope "global"), and empty their slots."""
        self.target.assign(topk.split_proportionally(zeros, [math.prod(v.shape) - 1 for v in self.pruned_variables]))
        self.prune_now()
        with replicas.strategy_scope(self):
            self._state.empty_slots()

    # ---- saving -----------------------------------------------------------------------------------------------------

    def save_own_variables(self, store):
        """Masks, targets and position; Keras saves the inner optimizer by itself."""
        self._state.save(store)

    def load_own_variables(self, store):
        """The reverse.

        Raises: ValueError if the file has no masks for these weights, instead of pruning with wrong ones.
        """
        self._state.load(store)

    def get_config(self):
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "pruner": keras.saving.serialize_keras_object(self.pruner),
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "sparsity": self.sparsity,
            "total_steps": self.total_steps,
            "name": self.name,
            "asked": self._asked.get_config(),
            "remembered": {name: list(v.shape) for name, v in self.extra_state.items()},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        asked, remembered = config.pop("asked", None), config.pop("remembered", {})
        with keras.saving.custom_object_scope(custom_objects or {}):
            config["inner_optimizer"] = keras.saving.deserialize_keras_object(config["inner_optimizer"])
        optimizer = cls(**config)
        if asked:
            optimizer._asked = selection.Overrides(**asked)
        optimizer._extra_state_shapes = remembered
        return optimizer
