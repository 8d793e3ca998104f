"""TFMOT's layer wrapper with exact and fast masks."""

import inspect

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PruningSchedule

from tfsparse import pruners
from tfsparse.backend import ops as backend_ops
from tfsparse.masks import granularity
from tfsparse.tfmot import kernels
from tfsparse.tfmot.pruning import KeepMasked, Pruning, constrain, native, user_constraint


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class PruneLowMagnitude(pruning_wrapper.PruneLowMagnitude):
    """A layer whose smallest weights are zero from one optimizer step to the next.

        before a training step, if pruning_schedule(step) says so:  mask = 1 for the largest |weight|, else 0
        after every optimizer step:                                 weight = weight * mask

    A subclass of TFMOT's wrapper with the same variables (a mask and a threshold per weight, one step), so its files,
    `strip_pruning`, `UpdatePruningStep` and `PruningSummaries` work with it, and it needs none of them.

    Args:
        layer: any layer. TFMOT's registry says what is pruned of those it knows, `get_prunable_weights` of your own; of
            others it is the kernels of rank >= 2.
        pruning_schedule: one of `tfsparse.tfmot` or TFMOT's.
        block_size: (inputs, outputs) of the blocks that live or die together, for kernels of any rank.
        block_pooling_type: "AVG" or "MAX": what of a block's magnitudes ranks it.
        sparsity_m_by_n: (m, n): m zeros in every n consecutive inputs, reached as the schedule reaches m / n.
        scope: "layer" or "global": the weights ranked against each other; see `prune_low_magnitude`.

    Raises: ValueError for options that are none of these.

    >>> tf_keras.Sequential([PruneLowMagnitude(tf_keras.layers.Dense(10), tfsparse.tfmot.OneCycle(0.9, end_step=1000))])
    """

    def __init__(
        self,
        layer: tf_keras.layers.Layer,
        pruning_schedule: PruningSchedule | None = None,
        block_size=(1, 1),
        block_pooling_type: str = "AVG",
        sparsity_m_by_n: tuple[int, int] | None = None,
        scope: str = "layer",
        **kwargs,
    ):
        schedule = ConstantSparsity(0.5, 0) if pruning_schedule is None else pruning_schedule
        kernels.name_prunable_weights(layer)
        super().__init__(layer, schedule, tuple(block_size), block_pooling_type, sparsity_m_by_n, **kwargs)
        self.scope = scope
        self.units = _units(self.block_size, block_pooling_type, self.sparsity_m_by_n)
        self.pruner = pruners.Magnitude(self.units, scope)
        if not self.pruner.is_global:
            rank_together([self])

    def build(self, input_shape):
        super(pruning_wrapper.PruneLowMagnitude, self).build(input_shape)  # TFMOT's own refuses blocks of convolutions
        weights = self.layer.get_prunable_weights()
        self.prunable_weights = [w for w in weights if self.units.num_units(tuple(w.shape)) > 0]
        for weight in self.prunable_weights:
            variable = native(weight)
            mask = self._add("mask", variable.shape, variable.dtype, "ones")
            threshold = self._add("threshold", (), variable.dtype, "zeros")
            self.pruning_vars.append((weight, mask, threshold))
        self.pruning_step = self._add("pruning_step", (), tf.int64, "zeros")
        for i, (weight, mask, _) in enumerate(self.pruning_vars):
            steps = self.pruning_step if i == 0 else None
            constrain(native(weight), KeepMasked(user_constraint(weight), mask, steps))

    def _add(self, name, shape, dtype, initializer):
        # aggregation is "none": equal on all replicas anyway, and so never communicated
        options = {"trainable": False, "experimental_autocast": False}
        return self.add_weight(name, shape=shape, dtype=dtype, initializer=initializer, **options)

    def call(self, inputs, training=None, **kwargs):
        if training is None:
            training = tf_keras.backend.learning_phase()
        if tf.is_tensor(training):
            backend_ops.when(tf.cast(training, tf.bool), self._before_step, [])
        elif training:
            self._before_step()
        known = inspect.signature(self.layer.call).parameters
        if "training" in known:
            kwargs["training"] = training
        if "mask" not in known:
            kwargs.pop("mask", None)
        return self.layer(inputs, **kwargs)

    @tf.autograph.experimental.do_not_convert
    def _before_step(self):
        if self.pruning_obj is None:
            raise ValueError(
                f'{self.name} is ranked against the other layers of its model (scope="global") and does not know them. '
                "Write prune_low_magnitude(model, ...) on the whole model, or fit(..., "
                "callbacks=[tfsparse.tfmot.Prune()])."
            )
        if self in self.pruning_obj.active[:1]:  # once for all that are ranked together
            self.pruning_obj.conditional_mask_update()

    def get_config(self):
        return {**super().get_config(), "sparsity_m_by_n": self.sparsity_m_by_n, "scope": self.scope}


def rank_together(wrappers: list[PruneLowMagnitude]) -> None:
    """Make the weights of some wrappers compete; the schedule and the pruner are the first one's."""
    pruning = Pruning(wrappers[0].pruning_schedule, wrappers[0].pruner)
    for wrapper in wrappers:
        pruning.wrappers.append(wrapper)
        wrapper.pruning_obj = pruning


def _units(block_size, pooling, m_by_n) -> granularity.Granularity:
    """TFMOT's three options in our terms: blocks as (outputs, inputs), and n of m that live."""
    inputs, outputs = block_size
    if m_by_n is not None:
        zeros, of = m_by_n
        return granularity.NofM(of - zeros, of)
    if (inputs, outputs) == (1, 1):
        return granularity.Weight()
    return (granularity.MaxBlock if pooling == "MAX" else granularity.Block)(outputs, inputs)
