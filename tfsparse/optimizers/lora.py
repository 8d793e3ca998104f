"""LoRA of Keras on pruned kernels."""

import keras
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers.compiled_model import check_keras3
from tfsparse.optimizers.kernel_checks import lora_layers


def merge_lora(model: keras.Model) -> None:
    """Add what LoRA has learnt to the kernels where they are not zero: call it before `model.save`.

        kernel = (kernel + lora_alpha / lora_rank * a @ b) * (kernel != 0)
        b = 0                                           # the adapter can be trained on

    `layer.enable_lora(rank)` freezes a kernel and trains `a @ b` beside it. Keras adds the two when it saves the model,
    and the file has no zeros left. After this function nothing is left to add. The outputs change, because `a @ b` is
    not zero where the kernel is: evaluate the model again. Kernels without zeros, and embeddings, are merged too.
    `tfsparse.export` needs no merging: it writes the sparse kernels and the adapters.

    Args:
        model: A model with layers on which `enable_lora` was called.

    Raises:
        TypeError: If the model is no Keras 3 model.
        ValueError: If no layer has LoRA, or if one is quantised.

    Examples:
        >>> for layer in pruned.layers:
        ...     layer.enable_lora(4)
        >>> pruned.compile("adam", loss="mse")
        >>> pruned.fit(x, y)
        >>> tfsparse.merge_lora(pruned)
        >>> pruned.save("tuned.keras")
    """
    check_keras3(model, "it for tfsparse.tfmot.to_keras3(model): tf_keras has no LoRA")
    layers = lora_layers(model)
    if not layers:
        raise ValueError(f"No layer of {model.name!r} has LoRA, so there is nothing to merge: save the model as it is.")
    if quantised := [layer.path for layer in layers if layer.quantization_mode is not None]:
        raise ValueError(
            f"{', '.join(quantised)} is quantised, and zeros of integers cannot be told from rounded weights. Merge "
            "first, then quantise: tfsparse.merge_lora(model), then model.quantize(...)."
        )
    for layer in layers:
        _merge(layer)


def _merge(layer):
    name = "embeddings" if hasattr(layer, "lora_embeddings_a") else "kernel"
    frozen = next(v for v in layer.weights if v.name == name)  # public `layer.kernel` is the sum
    a, b = (getattr(layer, f"lora_{name}_{factor}") for factor in "ab")
    value = backend_ops.read(frozen)
    learnt = getattr(layer, "lora_alpha", layer.lora_rank) / layer.lora_rank * ops.matmul(a, b)
    frozen.assign(backend_ops.masked(value + ops.cast(learnt, value.dtype), value != 0))
    b.assign(ops.zeros(b.shape, b.dtype))
