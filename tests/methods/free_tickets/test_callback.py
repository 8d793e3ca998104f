"""FreeTickets: which weights are exchanged when, which epochs become tickets, and the same after a kill."""

import itertools
import json

import keras
import numpy as np
import pytest
from keras import ops
from thoroughly import also

import tfsparse
from tfsparse import FreeTickets, FreeTicketsRate, testing
from tfsparse.backend import replicas
from tfsparse.methods.free_tickets.tickets import TicketFolder
from tfsparse.optimizers import compiled_model
from tfsparse.testing import fixtures
from tfsparse.testing.devices import two_cpu_strategy

EPOCHS, STEPS = 8, 4  # steps of an epoch; two epochs of exploration, three phases of two epochs
PHASES = {"exploration": 0.25, "num_tickets": 3}


def compiled(rate=None, **options):
    model = testing.small_model()
    rate = rate or FreeTicketsRate(0.1, total_steps=EPOCHS * STEPS, **PHASES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss, metrics=["accuracy"], **options)
    return model


def fit(folder, *callbacks, model=None, epochs=EPOCHS, before=(), **options):
    model, tickets = model or compiled(), FreeTickets(folder, 0.5, **PHASES | options)
    return fixtures.fit_compiled(model, [*before, tickets, *callbacks], epochs)


def index(folder):
    return json.loads((folder / "tickets.json").read_text())


def bits(folder):
    """The index, and masks and weights of each ticket."""
    found = []
    for ticket in index(folder):
        model = keras.models.load_model(folder / f"ticket_{ticket['phase']}.keras")
        masks = [mask for _, mask in compiled_model.masks(model)]
        found.append((ticket, [a.tobytes() for a in fixtures.to_arrays([*model.variables, *masks])]))
    return found


def test_the_last_epoch_of_each_phase_is_a_ticket(tmp_path):
    weights = []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(fixtures.to_arrays(model.variables)))
    model = compiled()
    fit(tmp_path, keep, model=model)
    assert [(t["phase"], t["epoch"], t["step"], t["value"]) for t in index(tmp_path)] == [
        (1, 3, 16, None), (2, 5, 24, None), (3, 7, 32, None),
    ]  # fmt: skip
    for phase, epoch in ((1, 3), (2, 5), (3, 7)):
        ticket = keras.models.load_model(tmp_path / f"ticket_{phase}.keras")
        for value, expected in zip(fixtures.to_arrays(ticket.variables), weights[epoch], strict=True):
            np.testing.assert_array_equal(value, expected)
        fixtures.assert_target(ticket, compiled_model.sparse_optimizer(ticket).pruner)


@pytest.mark.parametrize("options", [{}, *also([{"jit_compile": True}, {"run_eagerly": True}])], ids=str)
def test_most_weights_are_exchanged_in_the_first_step_of_the_second_phase_and_of_the_third(tmp_path, options):
    """SET with a drop_fraction of almost nothing exchanges nothing else."""
    masks = []
    collect = fixtures.AfterEveryStep(lambda m: masks.append(fixtures.to_arrays(m.optimizer.masks)))
    pruner = tfsparse.SET(drop_fraction=1e-6, allocation="uniform")
    fit(tmp_path, collect, model=compiled(**options), pruner=pruner, large_fraction=1.0, updates=None)
    exchanged = [
        step
        for step, (before, after) in enumerate(itertools.pairwise(masks), start=2)
        if any(np.any(b != a) for b, a in zip(before, after, strict=True))
    ]
    assert exchanged == [17, 25]
    assert [np.sum(a == 0) for a in masks[16]] == [np.sum(a == 0) for a in masks[15]]


def test_a_ticket_is_the_best_epoch_of_its_phase(tmp_path):
    values = [0.9, 0.9, 0.2, 0.1, 0.3, 0.4, 0.5, 0.5]  # of exploration, which counts for no phase; 0.2; 0.4; first 0.5

    class Measure(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_accuracy"] = values[epoch]

    fit(tmp_path / "max", before=[Measure()], monitor="val_accuracy")
    assert [(t["epoch"], t["value"]) for t in index(tmp_path / "max")] == [(2, 0.2), (5, 0.4), (6, 0.5)]
    fit(tmp_path / "min", before=[Measure()], monitor="val_accuracy", mode="min")
    assert [(t["epoch"], t["value"]) for t in index(tmp_path / "min")] == [(3, 0.1), (4, 0.3), (6, 0.5)]


@pytest.mark.parametrize("monitor", ["loss", *also([None])])
@pytest.mark.parametrize("epoch", [5, *also([1, 4, 6])])
def test_killed_and_resumed_leaves_the_tickets_of_the_straight_training(tmp_path, monitor, epoch):
    fit(tmp_path / "straight", monitor=monitor)
    with pytest.raises(fixtures.Interruption):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        fit(tmp_path / "resumed", backup, fixtures.interrupt(epoch), monitor=monitor)
    assert len(index(tmp_path / "resumed") if epoch > 2 else []) < 3
    fit(tmp_path / "resumed", keras.callbacks.BackupAndRestore(tmp_path / "backup"), monitor=monitor)
    assert bits(tmp_path / "resumed") == bits(tmp_path / "straight")


def test_killed_after_the_backup_and_before_the_ticket(tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:  # the last of the first phase
                raise fixtures.Interruption

    backup, straight, resumed = tmp_path / "backup", tmp_path / "straight", tmp_path / "resumed"
    fit(straight)
    with pytest.raises(fixtures.Interruption):
        fit(resumed, before=[keras.callbacks.BackupAndRestore(backup), Kill()])
    assert [ticket["epoch"] for ticket in index(resumed)] == [2]
    fit(resumed, before=[keras.callbacks.BackupAndRestore(backup)])
    assert bits(resumed) == bits(straight)


def test_killed_while_a_better_ticket_is_written(tmp_path, monkeypatch):
    """The file is there and its entry is not: the resumed training writes both."""
    straight, resumed, backup = tmp_path / "straight", tmp_path / "resumed", tmp_path / "backup"
    fit(straight)

    def kill(*_):
        raise fixtures.Interruption

    with monkeypatch.context() as patch, pytest.raises(fixtures.Interruption):
        patch.setattr(TicketFolder, "_write", kill)
        fit(resumed, keras.callbacks.BackupAndRestore(backup))
    assert (resumed / "ticket_1.keras").exists() and not (resumed / "tickets.json").exists()
    fit(resumed, keras.callbacks.BackupAndRestore(backup))
    assert bits(resumed) == bits(straight)


def test_tickets_of_an_earlier_training_are_forgotten(tmp_path):
    fit(tmp_path)
    with pytest.raises(fixtures.Interruption):
        fit(tmp_path, fixtures.interrupt(3))
    assert [(ticket["phase"], ticket["epoch"]) for ticket in index(tmp_path)] == [(1, 2)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strategies are TensorFlow's")
def test_two_replicas_have_equal_masks_and_the_tickets_of_one_device(tmp_path):
    def compare(model):
        copies = zip(*[replicas.replica_values(mask) for mask in model.optimizer.masks], strict=True)
        assert len({replicas.digest(masks) for masks in copies}) == 1

    with two_cpu_strategy().scope():
        model = compiled()
    fit(tmp_path / "two", fixtures.AfterEveryStep(compare), model=model)
    fit(tmp_path / "one")
    for phase in (1, 2, 3):
        two, one = (keras.models.load_model(tmp_path / name / f"ticket_{phase}.keras") for name in ("two", "one"))
        fixtures.assert_same(two, one, f"ticket {phase} of two replicas", exactly=False)


@pytest.mark.parametrize(
    ("options", "epochs", "message"),
    [
        ({"exploration": 0.9}, EPOCHS, r"Refinement phase 1 of 3 has no end of an epoch.*training has 8 epochs"),
        ({"num_tickets": 9}, EPOCHS, "Refinement phase 1 of 9 has no end of an epoch"),
        (
            {"exploration": 0.5},
            EPOCHS,
            r"other phases, .*'exploration': 0.25.*write FreeTicketsRate\(0.1, explor.*=0.5",
        ),
        ({}, 10, r"other phases, .*'total_steps': 32.*write FreeTicketsRate\(0.1, .*total_steps=40"),
        ({"monitor": "val_loss"}, EPOCHS, r"monitor='val_loss', and the logs have .*'loss'"),
    ],
)
def test_a_training_that_gives_no_tickets_is_refused(tmp_path, options, epochs, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, epochs=epochs, **options)


def test_arguments_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(ValueError, match="exchanges no weights: expected pruner=tfsparse.RigL"):
        FreeTickets(tmp_path, 0.9, "magnitude")
    with pytest.raises(ValueError, match="mode='best': expected one of 'auto', 'min', 'max'"):
        FreeTickets(tmp_path, mode="best")


def test_any_learning_rate_and_gradient_accumulation_work(tmp_path):
    model = testing.small_model()
    optimizer = keras.optimizers.Adam(1e-3, gradient_accumulation_steps=2)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(tmp_path, model=model)
    assert [(ticket["epoch"], ticket["step"]) for ticket in index(tmp_path)] == [(3, 8), (5, 12), (7, 16)]
    assert ops.convert_to_numpy(model.optimizer.iterations) == 16
