"""What is to be said of a model as a whole, in sentences."""

from collections.abc import Iterator, Sequence

import numpy as np
from keras import ops

from tfsparse.doctor import gaps
from tfsparse.doctor.patterns import Pattern
from tfsparse.doctor.subject import KerasSubject, Subject
from tfsparse.doctor.target import Target
from tfsparse.doctor.weights import Weight
from tfsparse.optimizers import compiled_model


def findings(subject: Subject, target: Target, weights: Sequence[Weight], patterns: Sequence[Pattern]) -> list[str]:
    """All of them, the most important first."""
    found = [*_zeros(weights, patterns), *_nearly_sparse(weights), *_integers(weights)]
    if isinstance(subject, KerasSubject):
        found += [*_quantized(subject.model), *_off_their_masks(subject.model)]
        found += [*_idle_channels(subject), *_saved(subject)]
    return found


def _zeros(weights, patterns) -> Iterator[str]:
    pruned = [w for w, p in zip(weights, patterns, strict=True) if p.name != "dense"]
    if pruned:
        zeros, size = (sum(count(w.array) for w in pruned) for count in (_zeros_of, np.size))
        yield f"{len(pruned)} of {len(weights)} weights are pruned: {zeros / size:.2%} of their entries are zero."
    else:
        yield (
            "Nothing is pruned: no weight has zeros to speak of, so no sparse form is smaller or faster. If channels "
            "were removed, by shrink or slim, the file is smaller and faster already; that cannot be seen in it."
        )


def _zeros_of(array):
    return int(np.sum(array == 0))


def _nearly_sparse(weights) -> Iterator[str]:
    """What an optimizer's step after the last mask makes of pruned weights."""
    found = [(w, gap) for w in weights if (gap := gaps.gap(w.array)) and w.array.dtype != "int8"]
    if found:
        size = sum(w.array.size for w, _ in found)
        tiny, below = (sum(share * w.array.size for w, share in shares) / size for shares in _shares(found))
        names = f"{found[0][0].name} and {len(found) - 1} more" if len(found) > 1 else found[0][0].name
        yield (
            f"Nearly sparse, not sparse: {below:.0%} of the entries of {names} are far smaller than all others, with a "
            f"gap between, but {tiny:.0%} are not zero. So look pruned weights after a step of the optimizer that no "
            "mask followed, for example in a file of TFMOT that was saved or stripped within an epoch. "
            f"tfsparse.prune(model, {below:.2f}) cuts them; tfsparse.Prune keeps them zero at every step."
        )


def _shares(found):
    return [(w, gap.tiny) for w, gap in found], [(w, gap.below) for w, gap in found]


def _integers(weights) -> Iterator[str]:
    if any(w.array.dtype == "int8" for w in weights):
        yield "Weights are int8: TFLite's sparse kernel takes float32 alone, so here zeros can save bytes and no time."


def _quantized(model) -> Iterator[str]:
    layers = model._flatten_layers(include_self=False, recursive=True)
    modes = [mode for layer in layers if (mode := getattr(layer, "quantization_mode", None))]
    if modes:
        yield (
            f"{len(modes)} layers are quantised by Keras ({', '.join(sorted(set(modes)))}): their integers are not "
            "looked at here, since neither export leaves their zeros out. Ask about the model before model.quantize."
        )


def _off_their_masks(model) -> Iterator[str]:
    off = [v.path for v, mask in compiled_model.masks(model) if bool(ops.any(ops.logical_and(mask == 0, v != 0)))]
    if off and compiled_model.sparse_optimizer(model):
        yield (
            f"{len(off)} weights are not zero where their masks are, {off[0]} the first: they were changed after "
            "pruning. model.optimizer.apply_masks() cuts them to the masks."
        )


def _idle_channels(subject) -> Iterator[str]:
    idle, every = subject.idle_channels()
    if idle:
        yield (
            f"{idle:,} of {every:,} channels are without effect: tfsparse.shrink(model) removes them, which saves "
            "bytes and multiplications on every target."
        )


def _saved(subject) -> Iterator[str]:
    if subject.saved:
        beside = ", and the optimizer's state beside the weights" if getattr(subject.model, "optimizer", None) else ""
        yield f"A .keras file stores every zero like any number{beside}: it is for training on, not for shipping."
