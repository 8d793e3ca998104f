"""What `Prune` says of a fit: which epochs end at the target."""

import keras
import pytest

from tfsparse import ACDC, DSD, Constant, Linear, OneCycle, OneShot, Prune, testing

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(optimizer="sgd", layers=()):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8)]) if layers else testing.small_model()
    model.compile(optimizer, LOSS)
    return model


def fit(model, prune, epochs=6, **options):
    x, y = testing.small_data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=[prune], **options).history


@pytest.mark.parametrize(
    ("schedule", "first"),
    [(OneCycle(end=0.5), 3), (OneCycle(end=0.6), 4), (Constant(), 1), (ACDC(), 6), (Linear(end=0.9), 6)],
    ids=repr,
)
def test_the_epochs_at_the_target_are_said_and_are_in_the_history(schedule, first, capsys):
    at_target = fit(compiled(), Prune(schedule, 0.75, verbose=1))["at_target"]
    at_the_end = len(at_target) - first + 1
    assert at_target[first - 1 :] == [1] * at_the_end and at_target[first - 2 : first - 1] in ([], [0])
    only = "Prune: only epoch 6 of 6 ends at the target. For a choice of epochs, as AtTarget needs it, write Linear(end"
    many = f"Prune: from epoch {first} of 6 on, every epoch ends at the target.\n"
    assert capsys.readouterr().out.startswith(only if sum(at_target) == 1 else many)


@pytest.mark.parametrize(
    ("schedule", "epochs", "advice"),
    [
        (OneCycle(), 8, "OneCycle(end=0.8)"),
        (OneCycle(), 3, "OneCycle(end=0.5)"),
        (OneShot(start=1.0), 6, "OneShot(start=0.8)"),
        (DSD(), 6, "DSD(end=0.8)"),
    ],
    ids=repr,
)
def test_if_only_the_last_epoch_is_at_the_target_the_line_says_how_to_have_more(schedule, epochs, advice, capsys):
    at_target = fit(compiled(), Prune(schedule, 0.75, verbose=1), epochs)["at_target"]
    assert at_target == [0] * (epochs - 1) + [1]
    line = f"Prune: only epoch {epochs} of {epochs} ends at the target. For a choice of epochs, as AtTarget needs it, "
    assert capsys.readouterr().out == f"{line}write {advice}.\n"
