"""TFMOT's layer wrapper with exact and fast masks."""

import inspect

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PruningSchedule

from tfsparse import pruners
from tfsparse.backend import ops as backend_ops
from tfsparse.masks import granularity
from tfsparse.pruners import selection
from tfsparse.tfmot import kernels
from tfsparse.tfmot.constraints import keep_masked, native
from tfsparse.tfmot.wrapped_weights import WrappedWeights


@tf_keras.saving.register_keras_serializable(package="tfsparse")
class PruneLowMagnitude(pruning_wrapper.PruneLowMagnitude):
    """A layer whose smallest weights are zero from one optimizer step to the next.

        before a training step, if pruning_schedule(step) says so:  mask = 1 for the largest |weight|, else 0
        after every optimizer step:                                 weight = weight * mask

    A subclass of TFMOT's wrapper with the same variables: a mask and a threshold per weight, and one step. So its
    files, `strip_pruning`, `UpdatePruningStep` and `PruningSummaries` work with it, and it needs none of them.

    Args:
        layer: Any layer. TFMOT's registry says which weights are pruned of the layers that it knows, and
            `get_prunable_weights` of your own. Of all others the kernels of rank >= 2 are pruned.
        pruning_schedule: When masks are updated: a schedule of `tfsparse.tfmot` or of TFMOT. Default: None, a constant
            0.5.
        block_size: (inputs, outputs) of the blocks that are pruned together, for kernels of any rank. Default: (1, 1).
        block_pooling_type: "AVG" or "MAX": what of a block's magnitudes ranks it. Default: "AVG".
        sparsity_m_by_n: (m, n): m zeros in every n consecutive inputs, reached as the schedule reaches m / n. Default:
            None.
        scope: "layer" or "global": the weights that are ranked against each other. Default: "layer".
        min_sparsity: With scope "global" the least sparsity of each of its weights, in [0, 1). Default: 0.0.
        max_sparsity: With scope "global" the largest sparsity of each of its weights, in (0, 1]. Default: 1.0, which
            leaves it to the rule that a weight keeps at least a tenth of what it would keep if all had the same
            sparsity.
        **kwargs: For `tf_keras.layers.Layer`.

    Raises:
        ValueError: If an option has another value.

    Examples:
        >>> dense = tf_keras.layers.Dense(10)
        >>> tf_keras.Sequential([PruneLowMagnitude(dense, tfsparse.tfmot.OneCycle(0.9, end_step=1000))])
    """

    def __init__(
        self,
        layer: tf_keras.layers.Layer,
        pruning_schedule: PruningSchedule | None = None,
        block_size=(1, 1),
        block_pooling_type: str = "AVG",
        sparsity_m_by_n: tuple[int, int] | None = None,
        scope: str = "layer",
        min_sparsity: float = 0.0,
        max_sparsity: float = 1.0,
        **kwargs,
    ):
        schedule = ConstantSparsity(0.5, 0) if pruning_schedule is None else pruning_schedule
        kernels.name_prunable_weights(layer)
        super().__init__(layer, schedule, tuple(block_size), block_pooling_type, sparsity_m_by_n, **kwargs)
        self.scope = scope
        self.units = _units(self.block_size, block_pooling_type, self.sparsity_m_by_n)
        self.pruner = pruners.Magnitude(self.units, scope)
        self.min_sparsity, self.max_sparsity = min_sparsity, max_sparsity
        self.bounds = self._checked_bounds()
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
            keep_masked(weight, mask, self.pruning_step if i == 0 else None)

    def _checked_bounds(self):
        """Return the `Bounds` of each weight; None if the user gave none."""
        bounds = selection.common_bounds(self.min_sparsity, self.max_sparsity)
        if bounds != (0, 1) and not self.pruner.is_global:
            raise ValueError(
                f"min_sparsity={self.min_sparsity}, max_sparsity={self.max_sparsity} are bounds of weights that compete"
                f' with others, and with scope="layer" {self.layer.name} has its own target: write scope="global".'
            )
        return None if bounds == (0, 1) else bounds

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

    def load_own_variables(self, store):
        try:
            super().load_own_variables(store)
        except ValueError as error:
            raise ValueError(
                f"{error} A model that TFMOT wrapped has more wrappers, also around layers without kernels. Load its "
                "file into such a model, and wrap that: wrapped_by_tfmot.load_weights(path); model = "
                "tfsparse.tfmot.prune_low_magnitude(wrapped_by_tfmot)."
            ) from error

    def get_config(self):
        own = ("sparsity_m_by_n", "scope", "min_sparsity", "max_sparsity")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def rank_together(wrappers: list[PruneLowMagnitude]) -> None:
    """Let the weights of some wrappers compete; schedule and pruner are those of the first wrapper."""
    group = WrappedWeights(wrappers[0].pruning_schedule, wrappers[0].pruner)
    for wrapper in wrappers:
        group.wrappers.append(wrapper)
        wrapper.pruning_obj = group


def _units(block_size, pooling, m_by_n) -> granularity.Granularity:
    """Translate TFMOT's options: our blocks are (outputs, inputs), and in our n:m the n live."""
    inputs, outputs = block_size
    if m_by_n is not None:
        zeros, group = m_by_n
        return granularity.NofM(group - zeros, group)
    if (inputs, outputs) == (1, 1):
        return granularity.Weight()
    return granularity.Block(outputs, inputs, pooling="max" if pooling == "MAX" else "mean")
