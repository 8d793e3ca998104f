"""The optimizer that keeps pruned weights at zero."""

import warnings

import keras
import numpy as np
from keras import ops

from tfsparse import pruners, schedules
from tfsparse.backend import keras_internals, replicas
from tfsparse.backend import ops as backend_ops
from tfsparse.consistency.mask_store import SyncStats
from tfsparse.masks import topk
from tfsparse.optimizers import addons as all_addons
from tfsparse.optimizers import recompiled
from tfsparse.optimizers.addons.step import AddonStep
from tfsparse.optimizers.mask_state import MaskState
from tfsparse.optimizers.masked_weights import check_replicas
from tfsparse.optimizers.validation import check_inner, check_total_steps, variables_of_step
from tfsparse.optimizers.wrapper import OptimizerWrapper
from tfsparse.pruners import left_dense, selection
from tfsparse.pruners.reached import reached_by, warn_of_missed


@keras.saving.register_keras_serializable(package="tfsparse")
class SparseOptimizer(OptimizerWrapper):
    """Wraps a Keras optimizer so that after every step `weight == weight * mask`.

        inner_optimizer.apply(gradients)
        if schedule.due(step, total_steps):
            num_pruned = start + (target - start) * schedule(step / total_steps)
            weights, slots = weights * masks, slots * masks     # a weight that returns starts from zero
            masks = pruner.masks(weights, gradients, masks, num_pruned)
        weights = weights * masks

    Masks, targets and the position in the schedule are variables of the optimizer. So whatever saves the optimizer
    saves them, and a compiled step sees what is assigned to them.

    Args:
        inner_optimizer: A Keras optimizer, its name or its config. `LossScaleOptimizer` goes outside, not inside.
        schedule: When masks are updated: a schedule, its name or its config, see `tfsparse.schedules`. Default:
            "one_cycle".
        sparsity: Target in [0, 1): of all kernels together, or with `scope="layer"` of each of them.
            Default: 0.5.
        pruner: Which weights are pruned: a pruner, its name or its config, see `tfsparse.pruners`. Default:
            "magnitude".
        total_steps: Length of the schedule in optimizer steps, at least 2. `tfsparse.Prune` takes it from `fit`.
            Default: None, which is not known yet.
        addons: What changes the steps of the inner optimizer for pruned weights: a list of add-ons, their names or
            configs, see `tfsparse.optimizers.addons`. Default: (), none.
        name: Name of this optimizer. Default: "sparse_" and the inner optimizer's name.

    Raises:
        ValueError: If the optimizer, the sparsity or the number of steps cannot work.

    Examples:
        >>> optimizer = tfsparse.SparseOptimizer("adam", "one_cycle", sparsity=0.9, total_steps=10_000)
        >>> model.compile(optimizer, loss="mse")
    """

    def __init__(
        self,
        inner_optimizer,
        schedule="one_cycle",
        sparsity=0.5,
        pruner="magnitude",
        *,
        total_steps=None,
        addons=(),
        name=None,
    ):
        inner = check_inner(keras.optimizers.get(inner_optimizer))
        super().__init__(inner, name or f"sparse_{inner.name}")
        self.pruner, self.schedule = pruners.get(pruner), schedules.get(schedule)
        self.sparsity, self.addons = selection.check_sparsity(sparsity), all_addons.get_all(addons)
        self.schedule.check_target(self.sparsity, self.pruner)
        self._overrides, self._knows_layers = selection.Overrides(), False
        self._total_steps = check_total_steps(total_steps)
        self._extra_state_shapes, self._untrained, self._is_loaded = {}, [], False
        self._state = self._addon_step = None
        self.sync_stats = SyncStats()

    # ---- what is pruned, and how far --------------------------------------------------------------------------------

    def set_sparsity(self, variable, sparsity: float) -> None:
        """Set the target of one variable, or of the kernels of one layer.

        Before the optimizer is built this also includes variables that are not pruned by default. Afterwards a compiled
        training step uses the new target at its next mask update.

        Args:
            variable: A variable, or a layer whose kernels are meant.
            sparsity: Fraction of zeros in [0, 1).

        Raises:
            ValueError: If the variable has no target of its own, because all weights share a global one.
        """
        sparsity = selection.check_sparsity(sparsity)
        for v in selection.kernels(variable):
            if not self.built:
                self._overrides.set(v, sparsity)
                continue
            index = self._mask_index(v)
            if self.pruner.is_global and [index] not in self.mask_state.groups:
                raise ValueError(
                    f"{v.path} shares one global target with other weights. Call set_sparsity before the optimizer is "
                    'built, or prune with scope="layer".'
                )
            counts = self.mask_state.target_counts()
            counts[index] = self.pruner.num_prunable(tuple(v.shape), sparsity)
            self.mask_state.set_target_counts(counts)
            warn_of_missed(self.pruner, [reached_by(v, sparsity, counts[index])])

    def set_target_sparsity(self, sparsity: float) -> None:
        """Set the target of all weights that have none of their own, at most that of the constructor.

        A compiled training step uses it at its next mask update. Weights that were zero before the schedule stay so.

        Args:
            sparsity: Fraction of zeros in [0, the `sparsity` of the constructor].

        Raises:
            ValueError: If the sparsity is out of range, or the optimizer is not built.
        """
        if selection.check_sparsity(sparsity) > self.sparsity:
            raise ValueError(f"sparsity={sparsity:g} is above {self.sparsity:g}, the target of {self.name}.")
        state, trained = self.mask_state, keras_internals.trained_variables(self)
        counts = self._overrides.counts(trained, self.pruner, sparsity) if sparsity else {}
        state.set_target_counts(np.maximum([counts.get(i, 0) for i in state.indices], state.start_counts()))

    def exclude_from_pruning(self, var_list=None, var_names=None) -> None:
        """Leave variables dense.

        Args:
            var_list: Variables, or layers whose kernels are meant.
            var_names: Texts; a variable whose path contains one of them stays dense.

        Raises:
            ValueError: If the optimizer is built already.
        """
        if self.built:
            raise ValueError("exclude_from_pruning must be called before the optimizer is built, as for weight decay.")
        for item in var_list or []:
            for v in selection.kernels(item):
                self._overrides.set(v, None)
        self._overrides.dense_names += list(var_names or [])

    def choose_when_built(self, choice) -> None:
        """Let `choice()` name targets of single weights when the optimizer is built, for a model without weights yet.

        Args:
            choice: Returns pairs of a variable and its sparsity, or None to leave it dense.
        """
        self._overrides.deferred, self._knows_layers = choice, True

    def has_choices(self, choices) -> bool:
        """Return True if all pairs of a variable and its sparsity or None were chosen before it was built."""
        return self._overrides.contain(keras_internals.trained_variables(self), choices)

    def mask(self, variable):
        """Return the mask of a variable: 1 lives, 0 is pruned.

        Raises:
            ValueError: If the variable is not pruned.
        """
        return self.masks[self._mask_index(variable)]

    @property
    def mask_state(self) -> MaskState:
        """Masks, weights, slots and counts; ValueError before the optimizer is built."""
        if self._state is None:
            raise ValueError(
                f"{self.name} is not built yet, so it has no masks: train first, or call "
                "optimizer.build(model.trainable_variables)."
            )
        return self._state

    @property
    def pruned_variables(self) -> list:
        """The variables with a mask, in the order of `masks` and `target`; none before the optimizer is built."""
        return self._state.weights if self.built else []

    @property
    def untrained_variables(self) -> list:
        """The variables that would be pruned, but that `apply` has never got a gradient of, so they stay dense."""
        trained = keras_internals.trained_variables(self)
        return [trained[i] for i in self._state.untrained] if self.built else []

    @property
    def excluded_variables(self) -> list:
        """The variables that the user left dense."""
        trained = keras_internals.trained_variables(self) if self.built else []
        return [trained[i] for i, s in self._overrides.sparsities.items() if s is None and i < len(trained)]

    @property
    def masks(self) -> list:
        """All masks; none before the optimizer is built."""
        return list(self._state.masks) if self.built else []

    @property
    def target(self):
        """Integer variable: the entries to prune of each weight at the end. It may be assigned to."""
        return self.mask_state.target

    @property
    def total_steps(self) -> int | None:
        """Length of the schedule in optimizer steps; None: not known yet."""
        return (backend_ops.to_int(self._state.total_steps) or None) if self.built else self._total_steps

    def set_total_steps(self, steps: int) -> None:
        """Set the length of the schedule in optimizer steps, at least 2.

        This is no property setter: Keras skips a setter when the new value is the present object.
        """
        self._total_steps = check_total_steps(steps)
        if self.built:
            self._state.total_steps.assign(self._total_steps)

    @property
    def steps_done(self) -> int:
        """Steps of the schedule that are done."""
        return self._state.num_steps() - backend_ops.to_int(self._state.begin) if self.built else 0

    def reached_target(self) -> bool:
        """Return whether the schedule has ended, or the masks have as many zeros as at its end."""
        if self.total_steps is not None and self.steps_done >= self.total_steps:
            return True
        target = np.sum(self.mask_state.target_counts(), dtype="int64")
        return self.schedule.final == 1 and self.num_zeros() == target

    def has_target_at(self, step: int) -> bool:
        """Return whether an update at a step of the schedule gives as many zeros as the schedule has at its end."""
        fraction = self.schedule.fraction(step, self.total_steps)
        if self.schedule.final != 1 or not self.built:
            return self.schedule.final == 1 and bool(fraction >= 1)
        counts = backend_ops.to_numpy(self._state.num_pruned(fraction))
        return np.sum(counts, dtype="int64") == np.sum(self.mask_state.target_counts(), dtype="int64")

    def current_sparsity(self) -> float:
        """Return the zeros in all masks over the entries of all pruned variables, counted now."""
        return self._state.sparsity() if self.built else 0.0

    def num_zeros(self) -> int:
        """Return the zeros in all masks, counted now."""
        return self._state.num_zeros() if self.built else 0

    def _mask_index(self, variable) -> int:
        indices, index = self.mask_state.indices, keras_internals.variable_index(self, variable)
        if index not in indices:
            raise ValueError(
                f"{variable.path} is not pruned. Include it with set_sparsity before the optimizer is built."
            )
        return indices.index(index)

    # ---- the step ---------------------------------------------------------------------------------------------------

    def build(self, variables):
        """Create masks and targets for `variables`, and build the inner optimizer if it is not built yet."""
        if self.built:  # a LossScaleOptimizer builds its inner optimizer a second time
            return
        targets = self._overrides.resolve(variables, self.pruner, self.sparsity)
        if not targets and not self._is_loaded:  # all layers of a loaded model may be frozen
            raise ValueError(
                f"Nothing to prune: none of the {len(variables)} trainable variables is a kernel of rank >= 2 that "
                f"{self.pruner!r} can prune. Name weights of your own with set_sparsity(variable, {self.sparsity:g})."
            )
        if not (self._knows_layers or self._is_loaded):  # else `choice` or an earlier training has named them
            undecided = (v for i, v in enumerate(variables) if i not in self._overrides.sparsities)
            left_dense.warn_of_variables(undecided, self.sparsity)
        super().build(variables)
        alone = [p for p, i in enumerate(targets) if self.pruner.is_global and self._overrides.has_own_sparsity(i)]
        together = [p for p in range(len(targets)) if p not in alone]
        groups = [group for group in [together, *[[p] for p in alone]] if group]
        begin = backend_ops.to_int(self.iterations)
        bounds = [self._overrides.bounds(i) for i in targets]
        self._state = MaskState(self, targets, groups, begin, self._total_steps or 0, bounds)
        self._addon_step = AddonStep(self.addons, self._state)
        recompiled.record(self, self._state)
        self._state.leave_dense(self._untrained)
        self.add_extra_state({name: np.zeros(shape) for name, shape in self._extra_state_shapes.items()})

    def add_extra_state(self, values: dict) -> None:
        """Add variables that are saved with the masks, for a method that must resume where it stopped.

        Call it before the first step, or before another `compile`: a compiled step knows only the variables that
        existed when it was compiled.

        Args:
            values: `{name: initial value}`; the variables are float32.
        """
        self.mask_state.add_extra_state(values)

    @property
    def extra_state(self) -> dict:
        """`{name: variable}` of what `add_extra_state` added. The optimizer itself does not use it."""
        return dict(self._state.extra_state) if self.built else {}

    def continue_from(self, other: "SparseOptimizer") -> None:
        """Start a new schedule from the masks of another optimizer of the same variables."""
        self.mask_state.continue_from(other.mask_state)

    def apply(self, grads, trainable_variables=None):
        """Make one step of the inner optimizer, update the masks if they are due, and apply them.

        Raises:
            ValueError: If `total_steps` is not known, if the optimizer was built on other variables, or, in an eager
                step, if a weight holds NaN or infinity.
        """
        if len(grads) == 0:  # as in all optimizers of Keras
            return
        variables = variables_of_step(self, grads, trainable_variables)
        if not self._total_steps:
            raise ValueError(
                "SparseOptimizer does not know how long training is. Write SparseOptimizer(..., total_steps=10_000), "
                "or leave it to fit with callbacks=[tfsparse.Prune(...)]."
            )
        indices, storage = [keras_internals.variable_index(self, v) for v in variables], self._state.storage
        self._state.receive(i for i, gradient in zip(indices, grads, strict=True) if gradient is not None)
        gradients = self._global_gradients(dict(zip(indices, grads, strict=True)))
        iterations = backend_ops.read(self.iterations)
        storage.before_step()
        scored = self._scored_gradients(gradients)
        if self.pruner.accumulates:
            replicas.once(self._state.accumulate, scored)
        applied = self._addon_step.changed_gradients(storage.gradients(gradients))
        inputs = self._addon_step.weight_inputs(applied)
        self.inner_optimizer.apply(list(applied.values()), variables)
        replicas.once(self._end_step, iterations, inputs, scored)
        if not backend_ops.is_symbolic(backend_ops.read(self.iterations)):
            self.raise_nonfinite()

    def _global_gradients(self, gradients):
        """For a pruner or an add-on that needs them: this replica's share of the global gradients, by index."""
        indices = [i for i in self._state.indices if gradients.get(i) is not None]
        if not (self.pruner.needs_gradients or self._addon_step.needs_gradients):
            return gradients
        shared = map(replicas.divide_by_replicas, replicas.global_gradients([gradients[i] for i in indices]))
        return gradients | dict(zip(indices, shared, strict=True))

    def _scored_gradients(self, gradients):
        """The gradients that the pruner scores; zeros for a weight without a gradient."""
        if not self.pruner.needs_gradients:
            return []
        pairs = [(gradients.get(i), v) for i, v in zip(self._state.indices, self.pruned_variables, strict=True)]
        return [ops.zeros(v.shape, v.dtype) if g is None else g for g, v in pairs]

    def _end_step(self, iterations_before, addon_inputs, gradients):
        state, iterations = self._state, backend_ops.read(self.iterations)
        if not state.masks:  # no gradient of this step is that of a pruned weight
            return
        step, total = iterations - backend_ops.read(state.begin), backend_ops.read(state.total_steps)
        stepped = ops.not_equal(iterations, iterations_before)  # not so with gradient accumulation or loss scaling
        self._addon_step.change_weights(addon_inputs, stepped)
        state.storage.after_step()
        due = ops.logical_and(state.storage.update_is_due(self.schedule, step, total), stepped)
        # computed here, not in the branch: a branch of JAX knows only the variables that it assigns
        num_pruned = state.num_pruned(self.schedule.fraction(step, total))
        pruner = self.pruner.at_step(step, total)
        backend_ops.when(due, lambda: state.update(gradients, num_pruned, pruner), state.assigned())
        state.apply()

    def raise_nonfinite(self) -> None:
        """Raise ValueError if a weight held NaN or infinity at the last mask update."""
        self.mask_state.raise_nonfinite(self.steps_done)

    def check_replicas(self, on_divergence: str = "raise") -> None:
        """Compare the masks of all replicas, see `tfsparse.consistency.checks.check_masks`.

        Args:
            on_divergence: "raise" or "repair". A repair copies masks, weights and slots from the first replica.
        """
        check_replicas([self.mask_state], on_divergence, self.sync_stats)

    def finalize_variable_values(self, var_list):
        """Let the inner optimizer write its averages, and apply the masks to them."""
        self.inner_optimizer.finalize_variable_values(var_list)
        if self.built and self._state.has_averages:
            self.apply_masks()

    def apply_masks(self) -> None:
        """Apply the masks to weights that were written outside of training: `weight = weight * mask`.

        With a straight-through pruner the values that were written become the dense weights.
        """
        with replicas.strategy_scope(self):
            self.mask_state.storage.accept_external_writes()
            self.mask_state.apply()

    def prune_written_weights(self) -> None:
        """Prune weights that were written outside of training until they have as many zeros as the masks.

        `apply_masks` would prune what was pruned before. This ranks the weights that were written by their own
        magnitudes: those of an earlier epoch had other zeros.
        """
        with replicas.strategy_scope(self):
            self.mask_state.rank_written_weights()

    def prune_now(self) -> None:
        """Prune to the final sparsity at once, for a training that ended before its schedule.

        Raises:
            ValueError: If the pruner needs gradients of now, or if a weight holds NaN or infinity.
        """
        if self.pruner.needs_gradients and not self.pruner.accumulates:
            raise ValueError(
                f"{self.pruner!r} needs gradients and there are none outside a training step. Train to the end of the "
                'schedule, or prune now with tfsparse.prune(model, sparsity, pruner="magnitude").'
            )
        num_pruned = self.mask_state.num_pruned(ops.convert_to_tensor(self.schedule.final))
        with replicas.strategy_scope(self):
            self._state.update(None, num_pruned)
            self._state.apply()
        self.raise_nonfinite()

    def prune_to(self, num_zeros: int) -> None:
        """Prune now until `num_zeros` entries of all weights together are zero, and empty their slots.

        For a pruner with `scope="global"`. The count becomes the new target.
        """
        state = self.mask_state
        state.set_target_counts(topk.split_proportionally(num_zeros, [size - 1 for size in state.sizes]))
        self.prune_now()
        with replicas.strategy_scope(self):
            self._state.empty_slots()

    # ---- saving -----------------------------------------------------------------------------------------------------

    def save_own_variables(self, store):
        """Write masks, targets and position; Keras saves the inner optimizer by itself."""
        if self.built:
            self._state.save(store)

    def load_own_variables(self, store):
        """Read masks, targets and position; refuse a file without masks for these weights.

        Like other optimizers of Keras it only warns if it was not built when it was saved, or is not now, or if other
        weights of a loaded model are trainable than when it was saved.
        """
        if self.built and store.keys() and self._is_loaded and not self._state.fits(store):
            warnings.warn(
                f"The masks of {self.name!r} are not loaded: other weights of the model are trainable than when they "
                "were made, because layers were frozen or quantised. Before you train on, compile the model again and "
                "use tfsparse.Prune, or what is zero now grows.",
                stacklevel=2,
            )
        elif self.built and store.keys():
            self._state.load(store)
        elif self.built:
            warnings.warn(f"The file has no masks for {self.name!r}: it was saved before it was built.", stacklevel=2)
        elif store.keys():
            warnings.warn(
                f"The masks of {self.name!r} are not loaded: call optimizer.build(model.trainable_variables) before.",
                stacklevel=2,
            )

    def get_config(self):
        """Return the arguments of the constructor, the overrides, and the shapes of extra state."""
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "sparsity": self.sparsity,
            "pruner": keras.saving.serialize_keras_object(self.pruner),
            "total_steps": self.total_steps,
            "addons": [keras.saving.serialize_keras_object(addon) for addon in self.addons],
            "name": self.name,
            "overrides": self._overrides.get_config(),
            "extra_state": {name: list(v.shape) for name, v in self.extra_state.items()},
            "untrained": self._state.untrained if self.built else self._untrained,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Return the optimizer that `get_config` described.

        Files from before version 0.1 call the overrides `asked` and the extra state `remembered`.
        """
        config = dict(config)
        overrides = config.pop("overrides", None) or config.pop("asked", None)
        extra_state = config.pop("extra_state", None) or config.pop("remembered", None)
        untrained = config.pop("untrained", [])
        with keras.saving.custom_object_scope(custom_objects or {}):
            config["inner_optimizer"] = keras.saving.deserialize_keras_object(config["inner_optimizer"])
        optimizer = cls(**config)
        optimizer._overrides = selection.Overrides.from_config(overrides or {})
        optimizer._extra_state_shapes, optimizer._untrained, optimizer._is_loaded = extra_state or {}, untrained, True
        return optimizer
