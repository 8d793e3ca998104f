"""One training: a `model.fit` for each stage, and the resizes between them."""

import time

import keras

from tfsparse.backend import replicas
from tfsparse.structured.channels import Channels
from tfsparse.structured.shrinking import shrink
from tfsparse.structured.stages.examples import ShuffledArrays


class Training:
    """Train, resize, train, ... from the state of the record to the last epoch.

    Args:
        model: The compiled dense model, also if the training is resumed.
        policy: A `ResizePolicy`.
        record: A `Record`.
        data: A `FitData`.
        examples: What the policy measures on, or None.
        batch_size: Number of examples per batch.
        first_epoch: First epoch of the training, from 0.
        epochs: Epoch at which it ends.
        print_line: Function that prints a line about a resize.
    """

    def __init__(self, model, policy, record, data, examples, batch_size, first_epoch, epochs, print_line):
        self.model, self.policy, self.record = model, policy, record
        self._first_epoch, self._epochs = first_epoch, epochs
        self._data, self._examples, self._print_line = data, (examples, batch_size), print_line
        self._optimizer = type(model.optimizer), model.optimizer.get_config()
        self._start_time = time.perf_counter() - record.position.seconds
        self._dense_model = self._model_before = model
        self._has_warned = False
        self.dense_macs = Channels(model).macs()
        with replicas.strategy_scope(model):
            model.optimizer.build(model.trainable_variables)  # so that its slots are in every file
        if record.is_resumed:
            self.model = self._model_of_stage(len(record.resizes))
            record.load(self.model)
        self._set_up_probe()
        if not record.is_resumed:
            self._write()

    @property
    def epoch(self) -> int:
        """Number of epochs that are done, with those before the first of this training."""
        return self._first_epoch + len(self.record.entries)

    def run(self, callbacks) -> None:
        """Train what is left."""
        if self.record.is_finished:
            return
        while self.epoch < self._epochs and not self.record.position.halted:
            if self.is_due():
                self._end_stage()
            else:
                self._fit(callbacks)
        self._finalize_weights()
        self._roll_back_if_worse()
        self._write(finished=True)

    def is_due(self) -> bool:
        """Return whether the stage ends now."""
        return self.policy.is_due(self.record.entries, self.record.position, self._epochs - self.epoch)

    def measure(self) -> dict[str, float]:
        """Measure now, and return the figures of the whole network."""
        figures, further = self._probe.figures()
        figures |= {"macs": self._probe.graph.macs(), "parameters": self._probe.graph.parameters()}
        self._measured = figures | further
        return figures

    def end_epoch(self, logs: dict, halted: bool) -> None:
        """Add an epoch to the record, after `measure`.

        Args:
            logs: The metrics of the epoch.
            halted: Whether a callback of the user has stopped the training.
        """
        entry = {"epoch": self.epoch + 1} | {name: float(value) for name, value in logs.items()} | self._measured
        entry |= {"stage": self.record.position.stage, "widths": self._probe.widths}
        self.record.entries.append(entry)
        self.record.position.halted = halted
        self._write()

    # ---- a stage ----------------------------------------------------------------------------------------------------

    def _set_up_probe(self):
        self._probe = self.policy.probe(self.model, Channels(self.model), *self._examples)

    def _fit(self, callbacks):
        data = self._data.for_stage(self.epoch)
        callbacks = [_Measure(self, data["x"]), *callbacks, _EndEpoch(self)]
        self.model.fit(**data, initial_epoch=self.epoch, epochs=self._epochs, callbacks=callbacks)

    def _finalize_weights(self):
        """Do what `fit` does at its end, for a model that was written before that: assign averaged weights."""
        weights = self.model.trainable_variables
        self.model.optimizer.finalize_variable_values(weights)
        for weight in weights:  # on JAX an average would be the same array, and predicting takes it away from both
            weight.assign(keras.ops.convert_to_numpy(weight))

    def _write(self, finished=False):
        self.record.position.seconds = round(time.perf_counter() - self._start_time, 3)
        self.record.write(self.model, finished)

    # ---- between stages ---------------------------------------------------------------------------------------------

    def _end_stage(self):
        self._finalize_weights()
        if self._roll_back_if_worse():
            return
        entry = self.record.entries[-1]
        reason = self.policy.reason_to_stop(entry)
        if reason:
            self.record.position.stopped = reason
            self._print_line(f"epoch {self.epoch}: no more resizing: {reason}")
        else:
            self._resize(entry)

    def _resize(self, entry):
        keep = self.policy.kept_channels(self._probe, self.record.entries, self.record.position)
        self.record.add_resize({"epoch": self.epoch, "keep": keep})
        self._model_before = self.model
        self.model = self._smaller(self.model, keep, self.record.position.stage)
        self._set_up_probe()
        self._write()
        old, new = ("-".join(map(str, widths.values())) for widths in (entry["widths"], self._probe.widths))
        macs = [f"{100 * macs / self.dense_macs:.0f} %" for macs in (entry["macs"], self._probe.graph.macs())]
        label = self.policy.label(entry)
        self._print_line(f"epoch {self.epoch}: {label}, widths {old} -> {new}, MACs {' -> '.join(macs)}")

    def _smaller(self, model, keep, stage):
        return self.policy.first_model(shrink(model, keep=keep), *self._optimizer, stage)

    def _roll_back_if_worse(self):
        """Return to the stage before if this one is worse. Return whether it was."""
        position, entries = self.record.position, self.record.entries
        options = self.policy.options
        if options.tolerance is not None and not any(options.monitor in entry for entry in entries):
            self._warn_of_missing_metric(entries[-1])
        if position.rolled_back:
            return False
        reason = self.policy.reason_to_roll_back(entries, position.stage)
        if reason:
            self._roll_back(reason)
        return bool(reason)

    def _warn_of_missing_metric(self, entry):
        if not self._has_warned:
            self._has_warned = True
            names = ", ".join(name for name, value in entry.items() if isinstance(value, float))
            self._print_line(
                f"No {self.policy.options.monitor} is measured, so the training never returns to an earlier stage. "
                f"Pass validation_data to fit, or monitor= one of {names}."
            )

    def _roll_back(self, reason):
        stage = self.record.position.stage - 1
        if self.record.directory:
            self.model = self._model_of_stage(stage)
            self.record.load(self.model, stage)
        else:
            self.model = self._model_before
        self._finalize_weights()
        self.record.undo_resize(f"rolled back, since {reason}")
        self._set_up_probe()
        self._write()
        self._print_line(f"epoch {self.epoch}: back to the model of stage {stage}, and no more resizing: {reason}")

    def _model_of_stage(self, stage):
        """Return a model with the shapes of a stage, made by the recorded resizes. They may depend on the weights."""
        model = self._dense_model
        for number, resize in enumerate(self.record.resizes[:stage]):
            self.record.load(model, number)
            model = self._smaller(model, resize["keep"], number + 1)
        return model


class _Measure(keras.callbacks.Callback):
    """Runs before the user's callbacks, so that they find the figures in the logs. Sets the epoch of the data."""

    def __init__(self, training, data):
        super().__init__()
        self._training, self._data = training, data

    def on_epoch_begin(self, epoch, logs=None):
        if isinstance(self._data, ShuffledArrays):
            self._data.set_epoch(epoch)

    def on_epoch_end(self, epoch, logs=None):
        _ = self.model  # on JAX this brings the weights back from the step
        logs |= self._training.measure()


class _EndEpoch(keras.callbacks.Callback):
    """Runs after the user's callbacks, so that it knows whether one of them has stopped the training."""

    def __init__(self, training):
        super().__init__()
        self._training = training

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        self._training.end_epoch(logs, model.stop_training)
        if self._training.is_due():
            model.stop_training = True
