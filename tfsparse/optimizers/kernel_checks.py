"""Kernels that cannot be pruned as they are: integers, and those that LoRA has frozen."""

from tfsparse.backend import keras_internals
from tfsparse.pruners import selection

_FLOATS = (None, "float8")  # modes of quantisation in which a layer trains a float kernel


def check_kernels(model, chosen=()) -> None:
    """Refuse a built model whose kernels cannot be pruned as they are.

    Args:
        model: A Keras 3 model.
        chosen: What the user chose to prune beside kernels.

    Raises:
        ValueError: If a kernel that is not in a frozen layer is quantised to integers, or if there is nothing to prune
            because of LoRA.
    """
    quantised = [layer for layer in keras_internals.all_layers(model) if layer.trainable and _has_integer_kernel(layer)]
    if quantised:
        first, mode, others = quantised[0], quantised[0].quantization_mode, len(quantised) - 1
        raise ValueError(
            f"{first.path}{f' and {others} more layers' if others else ''} of {model.name!r} hold integers ({mode}), "
            f"which cannot be pruned: prune first, then write model.quantize({mode!r}). To prune other layers only, "
            "freeze these: layer.trainable = False."
        )
    if not chosen and not any(map(selection.is_prunable, model.trainable_variables)) and lora_layers(model):
        raise ValueError(f"Nothing to prune in {model.name!r}: {lora_hint(model)}")


def lora_layers(model) -> list:
    """Return the layers of a Keras 3 model in which `enable_lora` was called."""
    return [layer for layer in keras_internals.all_layers(model) if getattr(layer, "lora_enabled", False)]


def lora_hint(model) -> str:
    """Return what a user of LoRA must know; an empty text if the model has none."""
    if not lora_layers(model):
        return ""
    return (
        "LoRA has frozen its kernels and trains adapters beside them. Zeros of frozen kernels stay by themselves, but "
        "model.save fills them, unless you call tfsparse.merge_lora(model) before. To prune kernels, do it before "
        "layer.enable_lora(rank)."
    )


def _has_integer_kernel(layer):
    if getattr(layer, "quantization_mode", None) in _FLOATS:
        return False
    return any(selection.is_prunable(v) and "int" in v.dtype for v in layer.weights)
