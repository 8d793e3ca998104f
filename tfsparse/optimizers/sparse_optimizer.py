"""The optimizer that keeps the masks true."""

import keras
import numpy as np
from keras import ops

from tfsparse import distribute, engine, prunable, pruners, schedules
from tfsparse.optimizers.checks import check_inner, check_total_steps, couples_coordinates


def _forwarded(name: str) -> property:
    """An attribute that is the inner optimizer's."""

    def write(self, value):
        if "inner_optimizer" in self.__dict__:  # the base class writes its defaults before there is an inner optimizer
            setattr(self.inner_optimizer, name, value)

    return property(lambda self: getattr(self.inner_optimizer, name), write)


@keras.saving.register_keras_serializable(package="tfsparse")
class SparseOptimizer(keras.optimizers.Optimizer):
    """Wraps any Keras optimizer so that after every step `weight == weight * mask`.

        inner_optimizer.apply(gradients)
        if schedule.due(step, total_steps):
            sparsity = start + (target - start) * schedule(step / total_steps)
            new_masks = pruner.masks(weights, gradients, masks, sparsity)
            slots = slots * masks                 # a weight that returns starts with empty slots
            masks = new_masks
        weights = weights * masks

    The masks, the target of every weight and the schedule's position are variables of the optimizer: whatever saves the
    optimizer saves them, and a compiled step sees what is written to them.

    Args:
        inner_optimizer: a Keras optimizer, its name or its config. `LossScaleOptimizer` goes outside, not inside.
        pruner, schedule: instance, name or config, see `tfsparse.pruners` and `tfsparse.schedules`.
        sparsity: target in [0, 1) for each kernel (`scope="layer"`) or for all kernels together (`scope="global"`).
        total_steps: optimizer steps over which the schedule runs, at least 2; `tfsparse.Prune` takes it from `fit`.

    Raises: ValueError for a sparsity, an optimizer or a number of steps that cannot work, with the line to write instead.

    >>> optimizer = SparseOptimizer("adam", pruner=tfsparse.Magnitude(scope="global"), sparsity=0.9, total_steps=10_000)
    >>> model.compile(optimizer, loss="mse")
    """

    use_ema = _forwarded("use_ema")
    ema_momentum = _forwarded("ema_momentum")
    ema_overwrite_frequency = _forwarded("ema_overwrite_frequency")
    loss_scale_factor = _forwarded("loss_scale_factor")
    gradient_accumulation_steps = _forwarded("gradient_accumulation_steps")
    weight_decay = _forwarded("weight_decay")
    learning_rate = _forwarded("learning_rate")
    iterations = property(lambda self: self.inner_optimizer.iterations)

    def __init__(
        self, inner_optimizer, pruner="magnitude", schedule="one_cycle", sparsity=0.5, total_steps=None, name=None
    ):
        inner = check_inner(keras.optimizers.get(inner_optimizer))
        super().__init__(learning_rate=0.0, name=name or f"sparse_{inner.name}")
        self.inner_optimizer = inner
        self.pruner, self.schedule = pruners.get(pruner), schedules.get(schedule)
        self.sparsity = prunable.check_sparsity(sparsity)
        self._asked = prunable.Wishes()
        self._total = check_total_steps(total_steps)

    # ---- what is pruned, and how far --------------------------------------------------------------------------------

    def set_sparsity(self, variable, sparsity: float) -> None:
        """The target of one variable (or of the kernels of one layer) instead of the common one.

        Before the optimizer is built this also includes variables that are not pruned by default; after, a compiled
        training step sees the new target at its next mask update.
        """
        sparsity = prunable.check_sparsity(sparsity)
        for v in prunable.kernels(variable):
            if not self.built:
                self._asked.set(v, sparsity)
                continue
            place = self._place(v)
            if self.pruner.jointly and [place] not in self._groups:
                raise ValueError(
                    f"{v.path} shares one global target with other weights. Call set_sparsity before the optimizer is "
                    'built, or prune with scope="layer".'
                )
            targets = ops.convert_to_numpy(self.target).copy()
            targets[place] = self.pruner.reachable(tuple(v.shape), sparsity)
            self.target.assign(targets)

    def exclude_from_pruning(self, var_list=None, var_names=None) -> None:
        """Leave variables (or all kernels of layers) dense: by object, or by words that occur in their paths."""
        if self.built:
            raise ValueError("exclude_from_pruning must be called before the optimizer is built, as for weight decay.")
        for item in var_list or []:
            for v in prunable.kernels(item):
                self._asked.set(v, None)
        self._asked.words += list(var_names or [])

    def mask(self, variable):
        """The mask of a variable: 1 lives, 0 is pruned.

        Raises: ValueError if the variable is not pruned.
        """
        return self._masks[self._place(variable)]

    @property
    def pruned_variables(self) -> list:
        """The variables that have a mask, in the order of `masks` and `target`."""
        return [self._trainable_variables[i] for i in self._pruned]

    @property
    def masks(self) -> list:
        """All masks."""
        return list(self._masks)

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps over which the schedule runs."""
        return (engine.number(self._total_steps) or None) if self.built else self._total

    def set_total_steps(self, steps: int) -> None:
        """Lay the schedule over `steps` optimizer steps. (A method: Keras skips a setter whose value is there already.)"""
        self._total = check_total_steps(steps)
        if self.built:
            self._total_steps.assign(self._total)

    @property
    def steps_done(self) -> int:
        """Steps of the schedule that lie behind."""
        return engine.number(self.iterations) - engine.number(self._begin)

    def current_sparsity(self) -> float:
        """Zeros in all masks over the entries of all pruned variables, counted now."""
        zeros = sum(int(np.sum(ops.convert_to_numpy(m) == 0)) for m in self._masks)
        return zeros / sum(int(np.prod(m.shape)) for m in self._masks)

    # ---- state ------------------------------------------------------------------------------------------------------

    @property
    def variables(self):
        return self._variables + self.inner_optimizer.variables

    def build(self, variables):
        """Create masks and targets for `variables`; the inner optimizer is built too unless it lives already."""
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)
        targets = self._asked.resolve(variables, self.pruner, self.sparsity)
        self._pruned = list(targets)
        alone = [p for p, i in enumerate(self._pruned) if self.pruner.jointly and self._asked.fixed(i)]
        together = [p for p in range(len(self._pruned)) if p not in alone]
        self._groups = [group for group in [together, *[[p] for p in alone]] if group]
        self._masks = [self._add_mask(variables[i]) for i in self._pruned]
        self.target = self._add_counts("target", list(targets.values()))
        self._start = self._add_counts("start", [0] * len(targets))
        self._begin = self._add_counts("begin", engine.number(self.iterations))
        self._total_steps = self._add_counts("total_steps", self._total or 0)
        self._fault = self._add_counts("fault", -1)
        self._couples = couples_coordinates(self.inner_optimizer, self.pruned_variables)

    def _add_mask(self, variable):
        return self.add_variable(
            variable.shape,
            initializer="ones",
            dtype=variable.dtype,
            aggregation="only_first_replica",  # "none" diverges silently, "mean" makes halves
            layout=getattr(variable, "_layout", None),
            name=f"{variable.path.replace('/', '_')}_mask",
        )

    def _add_counts(self, name, value):
        return self.add_variable(
            np.shape(value),
            initializer=keras.initializers.Constant(np.asarray(value)),
            dtype="int",
            aggregation="only_first_replica",
            name=name,
        )

    def adopt(self, other: "SparseOptimizer") -> None:
        """Begin a new cycle where `other` stands: its masks stay, and the schedule runs from them to the new target."""
        theirs = dict(zip(map(self._var_key, other.pruned_variables), other.masks, strict=True))
        start = ops.convert_to_numpy(self._start).copy()
        for place, (variable, mask) in enumerate(zip(self.pruned_variables, self._masks, strict=True)):
            if self._var_key(variable) in theirs:
                values = ops.convert_to_numpy(theirs[self._var_key(variable)])
                mask.assign(values)
                start[place] = int(np.sum(values == 0))
        self._start.assign(start)

    def _place(self, variable) -> int:
        index = self._get_variable_index(variable)
        if index not in self._pruned:
            raise ValueError(f"{variable.path} is not pruned. Include it with set_sparsity before the optimizer is built.")
        return self._pruned.index(index)

    def _slots(self, index: int) -> list:
        """The inner optimizer's state of one variable: Keras keeps it in lists parallel to the variables."""
        variable = self._trainable_variables[index]
        lists = [v for v in vars(self.inner_optimizer).values() if isinstance(v, (list, tuple))]
        slots = [s[index] for s in lists if len(s) == len(self._trainable_variables)]
        return [
            s for s in slots if isinstance(s, keras.Variable) and s is not variable and s.shape == variable.shape
        ]

    # ---- the step ---------------------------------------------------------------------------------------------------

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
        gradients = dict(zip([self._get_variable_index(v) for v in variables], grads, strict=True))
        gradients = self._scored_gradients(gradients)
        before = engine.read(self.iterations)
        self.inner_optimizer.apply(list(gradients.values()), variables)
        scored = [gradients[i] for i in self._pruned] if self.pruner.needs_gradients else []
        distribute.once(self._keep_true, before, scored)
        if not engine.is_symbolic(before):
            self.raise_fault()

    def _scored_gradients(self, gradients):
        """The gradients as the inner optimizer may see them: global before they are scored, and none for the pruned
        where an optimizer would let them reach other weights."""
        places = [p for p, i in enumerate(self._pruned) if gradients.get(i) is not None]
        if self.pruner.needs_gradients:
            reduced = distribute.global_gradients([gradients[self._pruned[p]] for p in places])
            gradients |= {self._pruned[p]: distribute.share(g) for p, g in zip(places, reduced, strict=True)}
        if self._couples:
            gradients |= {
                self._pruned[p]: gradients[self._pruned[p]] * ops.cast(self._masks[p], gradients[self._pruned[p]].dtype)
                for p in places
            }
        return gradients

    def _keep_true(self, before, gradients):
        iterations = engine.read(self.iterations)
        step, total = iterations - engine.read(self._begin), engine.read(self._total_steps)
        due = ops.logical_and(self.schedule.due(step, total), ops.not_equal(iterations, before))
        # read here, not in the branch: there a branch of JAX knows only the variables it assigns
        weights = [engine.read(v) for v in self.pruned_variables]
        counts = self._counts(self.schedule.fraction(step, total))
        slots = [s for i in self._pruned for s in self._slots(i)]
        engine.when(due, lambda: self._update_masks(weights, gradients, counts), [*self._masks, *slots, self._fault])
        self._multiply()

    def _update_masks(self, weights, gradients, counts):
        masks = [engine.read(m) for m in self._masks]
        new = list(masks)
        for group in self._groups:
            chosen = self.pruner.masks(
                [weights[p] for p in group],
                [gradients[p] if gradients else None for p in group],
                [masks[p] for p in group],
                [counts[p] for p in group],
            )
            for place, mask in zip(group, chosen, strict=True):
                new[place] = mask
        self._find_fault(weights)
        for index, mask, value in zip(self._pruned, self._masks, new, strict=True):
            for slot in self._slots(index):
                distribute.update(slot, lambda s, m: s * m, mask)
            distribute.update(mask, lambda _, m: m, value)

    def _counts(self, fraction):
        """Entries to prune now: exact integers, and exactly the target at the end."""
        start, target = ops.cast(self._start, "int32"), ops.cast(self.target, "int32")
        moved = ops.cast(ops.round(fraction * ops.cast(target - start, "float32")), "int32")
        return ops.where(fraction >= 1.0, target, start + moved)

    def apply_masks(self) -> None:
        """`weight = weight * mask` now; for weights that were written to from outside."""
        with distribute.strategy_scope(self):
            self._multiply()

    def _multiply(self):
        for variable, mask in zip(self.pruned_variables, self._masks, strict=True):
            distribute.update(variable, lambda w, m: w * m, mask)

    def _find_fault(self, weights):
        """Remember the first weight that holds NaN or infinity: a compiled step cannot raise."""
        sums = ops.stack([ops.sum(ops.cast(w, "float32")) for w in weights])
        faulty = ops.logical_not(ops.isfinite(sums))
        first = ops.where(ops.any(faulty), ops.argmax(ops.cast(faulty, "int32")), -1)
        distribute.update(self._fault, lambda _, f: f, ops.cast(first, self._fault.dtype))

    def raise_fault(self) -> None:
        """Raise ValueError if a weight held NaN or infinity at the last mask update: its mask would mean nothing."""
        place = engine.number(self._fault)
        if place >= 0:
            raise ValueError(
                f"{self.pruned_variables[place].path} holds NaN or infinity at step {self.steps_done}, so its weights "
                "cannot be ranked. Training diverged: lower the learning rate or clip gradients, and restart from the "
                "last checkpoint."
            )

    # ---- saving -----------------------------------------------------------------------------------------------------

    def save_own_variables(self, store):
        """Masks, targets and position; Keras saves the inner optimizer by itself."""
        for key, variable in self._own_state().items():
            store[key] = variable.numpy()

    def load_own_variables(self, store):
        """The reverse.

        Raises: ValueError if the file has no masks for these weights, instead of pruning with wrong ones.
        """
        state, found = self._own_state(), set(store.keys())
        if set(state) != found or any(tuple(store[k].shape) != tuple(v.shape) for k, v in state.items()):
            raise ValueError(
                f"This file has no masks for the optimizer's {len(self._masks)} pruned weights: it was saved by another "
                "optimizer, or with other weights pruned. Load it before pruning is set up: model.load_weights(path), "
                "then model.compile(...) and fit(..., callbacks=[tfsparse.Prune(...)])."
            )
        for key, variable in state.items():
            variable.assign(store[key])

    def _own_state(self) -> dict:
        """Variables by role: the names of layers may differ between the model that saved and the one that loads."""
        places = {id(m): f"mask_{place}" for place, m in enumerate(self._masks)}
        return {places.get(id(v), v.name): v for v in self._variables}

    def get_config(self):
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "pruner": keras.saving.serialize_keras_object(self.pruner),
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "sparsity": self.sparsity,
            "total_steps": self.total_steps,
            "name": self.name,
            "asked": self._asked.get_config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        asked = config.pop("asked", None)
        with keras.saving.custom_object_scope(custom_objects or {}):
            config["inner_optimizer"] = keras.saving.deserialize_keras_object(config["inner_optimizer"])
        optimizer = cls(**config)
        if asked:
            optimizer._asked = prunable.Wishes(**asked)
        return optimizer

    # ---- the end ----------------------------------------------------------------------------------------------------

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)  # EMA overwrites the weights: masks come last
        self.apply_masks()

    def prune_now(self) -> None:
        """Go to the target at once, whatever the schedule says; for the end of a training that stopped early."""
        weights = [engine.read(v) for v in self.pruned_variables]
        if self.pruner.needs_gradients:
            raise ValueError(
                f"{self.pruner!r} needs gradients and there are none outside a training step. Train to the end of the "
                'schedule, or prune now with tfsparse.prune(model, sparsity, pruner="magnitude").'
            )
        with distribute.strategy_scope(self):
            self._update_masks(weights, [], self._counts(ops.convert_to_tensor(self.schedule.final)))
            self._multiply()
        self.raise_fault()

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

