"""Findings about a model as a whole, in sentences."""

from collections.abc import Iterator, Sequence

import numpy as np

from tfsparse import methods
from tfsparse.backend import keras_internals
from tfsparse.doctor.magnitude_gap import find_gap
from tfsparse.doctor.patterns import Pattern
from tfsparse.doctor.sources import KerasSource, Source
from tfsparse.doctor.weights import Weight
from tfsparse.optimizers.compiled_model import broken_masks


def findings_of(source: Source, weights: Sequence[Weight], patterns: Sequence[Pattern]) -> list[str]:
    """Return all findings, the most important first."""
    findings = [*_zeros(weights, patterns), *_nearly_sparse(weights), *_integers(weights)]
    if isinstance(source, KerasSource):
        findings += [*_unfinished(source.model), *_quantized(source.model), *_off_mask(source.model)]
        findings += [*_removable_channels(source), *_keras_file(source)]
    return findings


def _zeros(weights, patterns) -> Iterator[str]:
    pruned = [w for w, p in zip(weights, patterns, strict=True) if p.name != "dense"]
    if pruned:
        zeros, size = sum(int(np.sum(w.array == 0)) for w in pruned), sum(w.array.size for w in pruned)
        yield f"{len(pruned)} of {len(weights)} weights are pruned: {zeros / size:.2%} of their entries are zero."
    else:
        yield (
            "Nothing is pruned: no weight has zeros to speak of, so no sparse form is smaller or faster. If channels "
            "were removed, by shrink or slim, the file is smaller and faster already; that cannot be seen in it."
        )


def _nearly_sparse(weights) -> Iterator[str]:
    """Yield a finding about pruned weights after an optimizer step that no mask followed."""
    gaps = [(w, gap) for w in weights if (gap := find_gap(w.array)) and w.array.dtype != "int8"]
    if gaps:
        size = sum(w.array.size for w, _ in gaps)
        tiny, below = (sum(getattr(g, name) * w.array.size for w, g in gaps) / size for name in ("tiny", "below"))
        names = f"{gaps[0][0].name} and {len(gaps) - 1} more" if len(gaps) > 1 else gaps[0][0].name
        yield (
            f"Nearly sparse, not sparse: {below:.0%} of the entries of {names} are far smaller than all others, with a "
            f"gap between, but {tiny:.0%} are not zero. So look pruned weights after a step of the optimizer that no "
            "mask followed, for example in a file of TFMOT that was saved or stripped within an epoch. "
            f"tfsparse.prune(model, {below:.2f}) cuts them; tfsparse.Prune keeps them zero at every step."
        )


def _integers(weights) -> Iterator[str]:
    if any(w.array.dtype == "int8" for w in weights):
        yield "Weights are int8: TFLite's sparse kernel takes float32 alone, so here zeros can save bytes and no time."


def _unfinished(model) -> Iterator[str]:
    if sentence := methods.unfinished(model):
        yield f"{sentence} Train to the end, or pass a later model."


def _quantized(model) -> Iterator[str]:
    layers = [layer for layer in keras_internals.all_layers(model) if layer is not model]
    modes = [mode for layer in layers if (mode := getattr(layer, "quantization_mode", None))]
    if modes:
        yield (
            f"{len(modes)} layers are quantised by Keras ({', '.join(sorted(set(modes)))}): their integers are not "
            "examined here, since neither export makes use of their zeros. Pass the model before model.quantize."
        )


def _off_mask(model) -> Iterator[str]:
    if broken := broken_masks(model):
        yield (
            f"{len(broken)} weights are not zero where their masks are, {next(iter(broken))} the first: they were "
            "changed after pruning. model.optimizer.apply_masks() sets them to zero."
        )


def _removable_channels(source) -> Iterator[str]:
    removable, total = source.num_removable_channels()
    if removable:
        yield (
            f"{removable:,} of {total:,} channels are without effect: tfsparse.shrink(model) removes them, which saves "
            "bytes and multiplications on every target."
        )


def _keras_file(source) -> Iterator[str]:
    if source.is_file:
        optimizer = ", and the optimizer's state beside the weights" if getattr(source.model, "optimizer", None) else ""
        yield f"A .keras file stores every zero like any number{optimizer}: it is for training on, not for shipping."
