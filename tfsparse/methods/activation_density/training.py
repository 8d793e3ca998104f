"""One training by activation density: `model.fit` once per stage, and what happens between."""

import time

import keras

from tfsparse.backend import replicas
from tfsparse.methods.activation_density import density, resizing
from tfsparse.methods.activation_density.examples import Shuffled
from tfsparse.structured import Channels


class Training:
    """Train, resize, train, ... from where the record stands to the last epoch.

    Args:
        model: compiled; the dense one, also on a resume.
        plan, record: see there.
        data: a `Source`.
        inputs: what densities are measured on, and how many of them at once.
        span: `initial_epoch` and `epochs` of `fit`.
        say: where lines about resizes go.
    """

    def __init__(self, model, plan, record, data, inputs, span, say):
        self.model, self.plan, self.record = model, plan, record
        self.first, self.epochs = span
        self._data, self._inputs, self._say = data, inputs, say
        self._optimizer = type(model.optimizer), model.optimizer.get_config()
        self._begun = time.perf_counter() - record.position["seconds"]
        self._dense = self._before = model
        self._is_missed = False
        self.dense_macs = Channels(model).macs()
        with replicas.strategy_scope(model):
            model.optimizer.build(model.trainable_variables)  # so that its slots are in every file
        if record.is_resumed:
            self.model = self._rebuilt(len(record.resizes))
            record.load(self.model)
        self._look()
        if not record.is_resumed:
            self._write()

    @property
    def done(self) -> int:
        """Epochs so far, those before the first included."""
        return self.first + len(self.record.epochs)

    def run(self, callbacks) -> None:
        """Train what is left."""
        if self.record.is_finished:
            return
        while self.done < self.epochs and not self.record.position["halted"]:
            if self.is_due():
                self._end_stage()
            else:
                self._fit(callbacks)
        self._settle()
        self._went_back()
        self._write(finished=True)

    def is_due(self) -> bool:
        """Does the stage end here?"""
        return self.plan.due(self.record.epochs, self.record.position, self.epochs - self.done)

    def measure(self) -> dict[str, float]:
        """Measure the densities now, and return what there is to say of the whole network."""
        found = self._probe.measure()
        whole = {"density": found.network, "macs": self._graph.macs(), "parameters": self._graph.parameters()}
        self._found = whole | {"densities": found.groups}
        return whole

    def epoch_done(self, logs: dict, halted: bool) -> None:
        """Remember an epoch, after `measure`; `halted`: a callback of the user's has stopped the training."""
        entry = {"epoch": self.done + 1} | {name: float(value) for name, value in logs.items()} | self._found
        entry |= {"stage": self.record.position["size"], "widths": {g.name: len(g) for g in self._probe.groups}}
        self.record.epochs.append(entry)
        self.record.position["halted"] = halted
        self._write()

    # ---- a stage ----------------------------------------------------------------------------------------------------

    def _look(self):
        """At the model of a new stage."""
        self._graph = Channels(self.model)
        self._probe = density.Probe(self.model, self._graph, *self._inputs)

    def _fit(self, callbacks):
        data = self._data(self.done)
        watching = [_Measure(self, data["x"]), *callbacks, _Keep(self)]
        self.model.fit(**data, initial_epoch=self.done, epochs=self.epochs, callbacks=watching)

    def _settle(self):
        """What `fit` does at its end, for a model that was kept before that: averaged weights become the weights."""
        weights = self.model.trainable_variables
        self.model.optimizer.finalize_variable_values(weights)
        for weight in weights:  # on JAX an average would be the same array, and predicting takes it away from both
            weight.assign(keras.ops.convert_to_numpy(weight))

    def _write(self, finished=False):
        self.record.position["seconds"] = round(time.perf_counter() - self._begun, 3)
        self.record.write(self.model, finished)

    # ---- between stages ---------------------------------------------------------------------------------------------

    def _end_stage(self):
        self._settle()
        if self._went_back():
            return
        entry = self.record.epochs[-1]
        refusal = self.plan.refusal(entry)
        if refusal:
            self._stop(refusal)
        else:
            self._resize(entry)

    def _stop(self, reason):
        self.record.position["stopped"] = reason
        self._say(f"epoch {self.done}: no more resizing: {reason}")

    def _resize(self, entry):
        keep = resizing.chosen(self._graph, self._probe.measure(), self.plan.widths(entry))
        self.record.resized({"epoch": self.done, "keep": keep})
        self._before = self.model
        self.model = self._smaller(self.model, keep, self.record.position["size"])
        self._look()
        self._write()
        old, new = ("-".join(map(str, w)) for w in (entry["widths"].values(), map(len, self._probe.groups)))
        shares = [f"{100 * macs / self.dense_macs:.0f} %" for macs in (entry["macs"], self._graph.macs())]
        self._say(
            f"epoch {self.done}: density {entry['density']:.2f}, widths {old} -> {new}, MACs {' -> '.join(shares)}"
        )

    def _smaller(self, model, keep, stage):
        model = resizing.smaller(model, keep)
        if self.plan.weights == "reinit":
            model = resizing.fresh(model, *self._optimizer, f"{self.plan.seed} {stage}")
        return model

    def _went_back(self):
        """Go back to the stage before if this one is worse; True if so."""
        position, entries = self.record.position, self.record.epochs
        if not any(self.plan.monitor in entry for entry in entries):
            self._miss(entries[-1])
        fall = None if position["rolled_back"] else self.plan.fall(entries, position["size"])
        if fall:
            self._roll_back(fall)
        return bool(fall)

    def _miss(self, entry):
        if not self._is_missed:
            self._is_missed = True
            measured = ", ".join(name for name, value in entry.items() if isinstance(value, float))
            self._say(
                f"No {self.plan.monitor} is measured, so accuracy decides nothing. Pass validation_data to fit, or "
                f"monitor= one of {measured}."
            )

    def _roll_back(self, reason):
        stage = self.record.position["size"] - 1
        if self.record.directory:
            self.model = self._rebuilt(stage)
            self.record.load(self.model, stage)
        else:
            self.model = self._before
        self._settle()
        self.record.rolled_back(f"rolled back, since {reason}")
        self._look()
        self._write()
        self._say(f"epoch {self.done}: back to the model of stage {stage}, and no more resizing: {reason}")

    def _rebuilt(self, stage):
        """A model of a stage's shapes, by the resizes as they were, which may depend on the weights."""
        model = self._dense
        for number, resize in enumerate(self.record.resizes[:stage]):
            self.record.load(model, number)
            model = self._smaller(model, resize["keep"], number + 1)
        return model


class _Measure(keras.callbacks.Callback):
    """Before the user's callbacks, so that they find the network's figures in the logs; tells the data which epoch it
    is."""

    def __init__(self, training, data):
        super().__init__()
        self._training, self._data = training, data

    def on_epoch_begin(self, epoch, logs=None):
        if isinstance(self._data, Shuffled):
            self._data.set_epoch(epoch)

    def on_epoch_end(self, epoch, logs=None):
        _ = self.model  # on JAX this brings the weights back from the step
        logs |= self._training.measure()


class _Keep(keras.callbacks.Callback):
    """After the user's callbacks, so that it knows whether one of them has stopped the training."""

    def __init__(self, training):
        super().__init__()
        self._training = training

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        self._training.epoch_done(logs, model.stop_training)
        if self._training.is_due():
            model.stop_training = True
