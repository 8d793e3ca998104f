"""What `Prune` says of a fit: which epochs end at the target."""

import keras
import pytest

from tfsparse import ACDC, Constant, Linear, OneCycle, OneShot, Prune, testing

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(optimizer="sgd", model=None):
    model = model or testing.small_model()
    model.compile(optimizer, LOSS)
    return model


def fit(model, *callbacks, epochs=6, **options):
    x, y = testing.small_data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks), **options).history


def line(first, last):
    return f"Prune: from epoch {first} of {last} on, every epoch ends at the target.\n"


@pytest.mark.parametrize(
    ("schedule", "at_target"),
    [
        (OneCycle(end=0.6), [0, 0, 1, 1, 1, 1]),  # of 0.75 * 580 zeros not one is missing shortly before the end
        pytest.param(Constant(), [1, 1, 1, 1, 1, 1], marks=pytest.mark.exhaustive),
        pytest.param(ACDC(), [0, 1, 1, 0, 0, 1], marks=pytest.mark.exhaustive),
    ],
    ids=repr,
)
def test_the_line_says_from_which_epoch_on_the_history_is_at_the_target(schedule, at_target, capsys):
    assert fit(compiled(), Prune(schedule, 0.75, verbose=1))["at_target"] == at_target
    first = 6 - at_target[::-1].index(0) + 1 if 0 in at_target else 1
    assert capsys.readouterr().out == line(first, 6)


@pytest.mark.parametrize(
    ("schedule", "epochs", "advice"),
    [
        (OneCycle(), 3, "OneCycle(end=0.5)"),
        pytest.param(Linear(), 6, "Linear(end=0.8)", marks=pytest.mark.exhaustive),
        pytest.param(OneShot(1.0), 6, "OneShot(start=0.8)", marks=pytest.mark.exhaustive),
    ],
    ids=repr,
)
def test_if_only_the_last_epoch_is_at_the_target_the_line_says_how_to_have_more(schedule, epochs, advice, capsys):
    history = fit(compiled(), Prune(schedule, 0.75, verbose=1), epochs=epochs)
    assert history["at_target"] == [0] * (epochs - 1) + [1]
    only = f"Prune: only epoch {epochs} of {epochs} ends at the target."
    assert capsys.readouterr().out == f"{only} For a choice of epochs, as AtTarget needs it, write {advice}.\n"


def test_accumulated_gradients_and_several_fits(capsys):
    model = compiled(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    prune = Prune(OneCycle(end=0.5), 0.75, total_steps=14, verbose=1)  # of two batches each
    first, second = fit(model, prune, epochs=2), fit(model, prune, epochs=7, initial_epoch=2)
    assert first["at_target"] + second["at_target"] == [0, 0, 1, 1, 1, 1, 1]
    out = "Prune: no epoch of this fit ends at the target, because the schedule goes on in a later fit.\n"
    assert capsys.readouterr().out == out + line(3, 7)
    fit(model, Prune(OneCycle(end=0.5), 0.75, verbose=1), epochs=2)  # at the target already
    assert capsys.readouterr().out == line(1, 2)


def test_a_model_without_weights_yet_and_data_of_unknown_length(capsys):
    model = compiled(model=keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8)]))
    fit(model, Prune(OneCycle(end=0.5), 0.75, verbose=1), epochs=4)
    assert capsys.readouterr().out == line(2, 4)
    x, y = testing.small_data()
    batches = ((x[:16], y[:16]) for _ in range(4))
    with pytest.warns(UserWarning, match="ran out of data"):
        compiled().fit(batches, verbose=0, shuffle=False, callbacks=[Prune(total_steps=8, verbose=1)])
    assert "Prune: which epochs end at the target is not known" in capsys.readouterr().out


def test_nothing_is_said_by_default(capsys):
    fit(compiled(), Prune(sparsity=0.75), epochs=1)
    assert not capsys.readouterr().out
