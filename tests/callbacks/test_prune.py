import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

import tfsparse
from tfsparse import Prune, SparseOptimizer, testing
from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers import compiled_model

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PER_LAYER = tfsparse.Magnitude(scope="layer")


def compiled(optimizer="adam", model=None, **options):
    model = model or testing.small_model()
    model.compile(optimizer, LOSS, metrics=["accuracy"], **options)
    return model


def fit(model, *callbacks, epochs=3, **options):
    x, y = testing.small_data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks), **options)


def test_sparsity_is_in_the_history_and_reaches_the_target():
    history = fit(compiled(), Prune(sparsity=0.75)).history
    assert history["sparsity"] == sorted(history["sparsity"])
    assert history["sparsity"][-1] == pytest.approx(0.75, abs=0.005)
    assert set(history) == {"loss", "accuracy", "sparsity", "at_target"}


def test_trained_model_keeps_its_optimizer_state():
    model = compiled()
    fit(model)
    inner = model.optimizer
    momentum = ops.convert_to_numpy(inner._momentums[0]).copy()
    prune = Prune(sparsity=0.5)
    prune.set_model(model)
    assert compiled_model.sparse_optimizer(model).inner_optimizer is inner
    np.testing.assert_array_equal(ops.convert_to_numpy(inner._momentums[0]), momentum)
    history = fit(model, prune).history
    assert history["sparsity"][0] < 0.3  # the schedule starts where pruning starts, not where training did
    assert history["sparsity"][-1] == pytest.approx(0.5, abs=0.005)


def test_second_fit_trains_on_at_the_target():
    model = compiled()
    fit(model, Prune(sparsity=0.5))
    masks = [ops.convert_to_numpy(m).copy() for m in model.optimizer.masks]
    history = fit(model, Prune(sparsity=0.5), epochs=2).history
    assert history["sparsity"][0] == history["sparsity"][-1]
    assert all(np.array_equal(a, ops.convert_to_numpy(b)) for a, b in zip(masks, model.optimizer.masks, strict=True))
    fit(model, epochs=1)  # without the callback the optimizer goes on just so
    assert model.optimizer.current_sparsity() == history["sparsity"][0]


def test_another_target_begins_a_new_cycle_from_the_masks():
    model = compiled()
    fit(model, Prune(sparsity=0.5))
    history = fit(model, Prune("polynomial", sparsity=0.9), epochs=4).history
    assert 0.49 < history["sparsity"][0] < 0.9
    assert history["sparsity"][-1] == pytest.approx(0.9, abs=0.005)


def test_one_schedule_over_several_fits():
    whole, parts = compiled(), compiled()
    fit(whole, Prune(sparsity=0.5), epochs=4, shuffle=False)
    for first, last in ((0, 1), (1, 3), (3, 4)):
        fit(parts, Prune(sparsity=0.5, total_steps=16), epochs=last, initial_epoch=first, shuffle=False)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_any_callback_order_saves_a_sparse_file(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model-{epoch}.keras")
    history = fit(compiled(), checkpoint, Prune(sparsity=0.75)).history
    for epoch, sparsity in enumerate(history["sparsity"], start=1):
        loaded = keras.models.load_model(tmp_path / f"model-{epoch}.keras")
        assert tfsparse.report(loaded).sparsity == pytest.approx(sparsity)


def test_early_stop_is_cut_to_the_target_with_a_warning():
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model = compiled()
    with pytest.warns(UserWarning, match="Training ended at step 4 of 12"):
        fit(model, Prune(sparsity=0.5), stop)
    assert model.optimizer.current_sparsity() == pytest.approx(0.5, abs=0.005)


def test_early_stop_at_the_target_has_nothing_to_cut():
    """RigL could not: it needs gradients. Warnings are errors here."""
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True))
    model = compiled()
    fit(model, Prune("constant", 0.5, "rigl"), stop)
    assert model.optimizer.steps_done == 4
    assert model.optimizer.current_sparsity() == pytest.approx(0.5, abs=0.005)


def test_custom_functions_survive_the_second_compile():
    def my_loss(y, p):
        return LOSS(y, p)

    model = testing.small_model()
    model.compile("sgd", my_loss, metrics=[lambda y, p: keras.ops.mean(p)])
    assert fit(model, Prune()).history["sparsity"][-1] == 0.5
    assert model._compile_config.config["loss"] is my_loss


def test_gradient_accumulation_counts_real_steps():
    model = compiled(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    fit(model, Prune(sparsity=0.5))
    assert model.optimizer.total_steps == 6


@pytest.mark.parametrize("kind", ["functional", "nested", "shared", "subclassed", "recurrent", "attention"])
def test_any_built_model(kind):
    layers, shape = keras.layers, (6, 6, 1)
    inputs = keras.Input(shape)
    flat = layers.Flatten()(inputs)
    if kind == "functional":
        outputs = layers.Dense(4)(layers.concatenate([layers.Dense(8)(flat), layers.Dense(8)(flat)]))
    elif kind == "nested":
        inner = keras.Sequential([keras.Input((36,)), layers.Dense(16), keras.Sequential([layers.Dense(8)])])
        outputs = layers.Dense(4)(inner(flat))
    elif kind == "shared":
        shared = layers.Dense(36)
        outputs = layers.Dense(4)(shared(shared(flat)))
    elif kind == "recurrent":
        outputs = layers.Dense(4)(layers.GRU(8)(layers.Reshape((6, 6))(inputs)))
    else:
        rows = layers.Reshape((6, 6))(inputs)
        outputs = layers.Dense(4)(layers.Flatten()(layers.MultiHeadAttention(2, 4)(rows, rows)))
    model = keras.Model(inputs, outputs)
    if kind == "subclassed":

        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense, self.head = layers.Dense(16), layers.Dense(4)

            def build(self, input_shape):
                self.dense.build((None, 36))
                self.head.build((None, 16))

            def call(self, x):
                return self.head(self.dense(keras.ops.reshape(x, (-1, 36))))

        model = Subclassed()
        model.build((None, *shape))
    fit(compiled(model=model), Prune("one_cycle", 0.75, PER_LAYER), epochs=2)
    pruned = model.optimizer.pruned_variables
    kernels = {"functional": 3, "nested": 3, "shared": 2, "subclassed": 2, "recurrent": 3, "attention": 5}
    assert len(pruned) == kernels[kind]
    for variable in pruned:
        zeros = int(np.sum(ops.convert_to_numpy(variable) == 0))
        assert zeros == round(0.75 * np.prod(variable.shape))


def test_skip_first_and_last():
    model = compiled()
    fit(model, Prune(sparsity=0.5, skip_first=True, skip_last=True), epochs=1)
    assert [v.path.split("/")[-2] for v in model.optimizer.pruned_variables] == ["hidden"]


@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_a_sparse_optimizer_that_is_compiled_needs_no_length(sparsity):
    """As its own error recommends. `Prune` decides if the two have different targets."""
    model = compiled(SparseOptimizer("adam", sparsity=sparsity))
    assert fit(model, Prune(sparsity=0.75)).history["sparsity"][-1] == pytest.approx(0.75, abs=0.005)


def test_another_choice_of_layers_is_a_new_schedule():
    model = compiled()
    fit(model, Prune("constant", 0.5, PER_LAYER))
    fit(model, Prune("constant", 0.5, PER_LAYER, exclude="head", sparsities={"hidden": 0.25}))
    rows = {r.weight.split("/")[-2]: r for r in tfsparse.report(model).rows}
    assert (rows["hidden"].target, rows["head"].target) == (0.25, None)
    fit(model, Prune(total_steps=100, exclude="conv"), epochs=1)
    with pytest.raises(ValueError, match="for other targets of single layers. Finish the running schedule"):
        fit(model, Prune(total_steps=100, exclude=["conv", "head"]), epochs=1)


# ---- what is pruned: by object or name, built or not ----------------------------------------------------------------


@pytest.mark.parametrize(
    "exclude",
    [
        lambda model: "head",
        lambda model: ["head"],
        lambda model: model.get_layer("head"),
        lambda model: model.get_layer("head").kernel,
    ],
    ids=["name", "names", "layer", "variable"],
)
def test_one_layer_or_several_by_name_or_as_objects(exclude):
    model = compiled()
    fit(model, Prune(sparsity=0.75, exclude=exclude(model), sparsities={"hidden": 0.5}), epochs=1)
    sparsities = {r.weight.split("/")[-2]: r.sparsity for r in tfsparse.report(model).rows}
    assert sparsities == {"conv": 0.75, "hidden": 0.5, "head": 0.0}


def test_what_is_frozen_already_may_be_excluded():
    model = testing.small_model()
    model.get_layer("conv").trainable = False
    exclude = [model.get_layer("conv"), model.get_layer("conv").kernel]
    fit(compiled(model=model), Prune("one_cycle", 0.75, PER_LAYER, exclude=exclude))
    assert [r.sparsity for r in tfsparse.report(model).rows if "conv" not in r.weight] == [0.75, 0.75]


def test_a_name_stands_for_all_layers_of_that_name():
    def encoder(name):
        encoded = keras.Input((36,))
        return keras.Model(encoded, keras.layers.Dense(8, name="a")(encoded), name=name)

    inputs = keras.Input((6, 6, 1))
    flat = keras.layers.Flatten()(inputs)
    outputs = keras.layers.Dense(4, name="out")(keras.layers.add([encoder("left")(flat), encoder("right")(flat)]))
    model = compiled(model=keras.Model(inputs, outputs))
    fit(model, Prune(sparsity=0.5, exclude="a"), epochs=1)
    assert [v.path for v in model.optimizer.pruned_variables] == ["out/kernel"]


def unbuilt(kind):
    layers = [keras.layers.Flatten(), keras.layers.Dense(8, "relu", name="first"), keras.layers.Dense(4, name="last")]
    if kind == "Sequential":
        return keras.Sequential(layers)

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = layers

        def call(self, x):
            for layer in self.parts:
                x = layer(x)
            return x

    return Subclassed()


@pytest.mark.parametrize("kind", ["Sequential", "subclassed"])
def test_a_model_that_the_first_step_builds(kind):
    model = compiled(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), unbuilt(kind))
    history = fit(model, Prune(sparsity=0.75, exclude="last"), tfsparse.SparsityLogger()).history
    assert history["sparsity"] == sorted(history["sparsity"])
    assert {r.weight.split("/")[-2]: r.sparsity for r in tfsparse.report(model).rows} == {"first": 0.75, "last": 0.0}
    fit(model, Prune(sparsity=0.75, exclude="last"), epochs=1)
    assert compiled_model.sparse_optimizer(model).steps_done == 4 * 4


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras on JAX builds a model before it sets callbacks up")
def test_what_needs_weights_before_the_first_step_says_how_to_get_them():
    x, y = testing.small_data()
    for callback in (Prune(pruner="feather"), tfsparse.PLL((x, y)), tfsparse.PruneGSM(compression=2)):
        model = compiled("sgd", unbuilt("subclassed"))
        with pytest.raises(ValueError, match=r"has no weights yet.*Call it on a batch of inputs before fit: model\(x"):
            fit(model, callback)
    model(x[:1])
    fit(model, Prune(sparsity=0.75, pruner="feather"))


def test_a_model_without_trainable_weights():
    model = testing.small_model()
    model.trainable = False
    with pytest.raises(ValueError, match="has no trainable weights.*set model.trainable = True and compile again"):
        Prune().set_model(compiled(model=model))


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_uncompiled_model():
    with pytest.raises(ValueError, match="call model.compile"):
        Prune().set_model(testing.small_model())


def test_too_few_steps():
    x, y = testing.small_data()
    with pytest.raises(ValueError, match="at least 2 training steps"):
        compiled().fit(x[:8], y[:8], batch_size=8, epochs=1, verbose=0, callbacks=[Prune()])


def test_unknown_length():
    x, y = testing.small_data()

    def endless():
        while True:
            yield x[:16], y[:16]

    with pytest.raises(ValueError, match="length is unknown"):
        compiled().fit(endless(), shuffle=False, verbose=0, callbacks=[Prune()])
    history = compiled().fit(endless(), shuffle=False, steps_per_epoch=4, verbose=0, callbacks=[Prune()]).history
    assert history["sparsity"] == [0.5]


def test_a_fit_that_ends_short_is_refused_before_the_first_step(tmp_path):
    model = compiled()
    fit(model, Prune(total_steps=100), epochs=1)
    before = model.get_weights()
    with pytest.raises(ValueError, match="would end short"):
        fit(model, Prune(), epochs=2)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    with pytest.raises(ValueError, match="Finish the running schedule"):
        fit(model, Prune(sparsity=0.9), epochs=2)


def test_divergence_is_said():
    model = compiled(keras.optimizers.SGD(1e30))
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit(model, Prune())


def test_what_names_no_layer():
    with pytest.raises(TypeError, match="Expected a layer, its name or a variable, got 3"):
        fit(compiled(), Prune(exclude=[3]))
    with pytest.raises(ValueError, match="no layer 'dense_1'. Its layers are: .*hidden"):
        fit(compiled(), Prune(exclude=["dense_1"]))


def test_interrupt_leaves_a_sparse_model(tmp_path):
    """Ctrl-C in the middle of an epoch, then save: the file is sparse to the entry."""
    script = """
        import os, signal, sys, keras, tfsparse
        from tfsparse import testing
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        model = testing.small_model()
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = testing.small_data()
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: batch == 2 and os.kill(os.getpid(), signal.SIGINT))
        try:
            model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[tfsparse.Prune("constant", 0.5), stop])
        except KeyboardInterrupt:
            model.save(sys.argv[1])
    """
    path = tmp_path / "interrupted.keras"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], check=True, env=os.environ)
    assert tfsparse.report(keras.models.load_model(path)).sparsity == pytest.approx(0.5, abs=0.005)


# ---- beside Keras's callbacks ---------------------------------------------------------------------------------------


def test_terminate_on_nan_stops_without_an_error_and_nothing_is_cut():
    model = compiled(keras.optimizers.SGD(1e30))
    with pytest.warns(UserWarning, match="training diverged, and nothing is cut"):
        history = fit(model, keras.callbacks.TerminateOnNaN(), Prune("linear", sparsity=0.75)).history
    assert len(history["loss"]) == 1 and model.optimizer.current_sparsity() < 0.75


def test_csv_logger_has_one_header_for_a_training_that_is_resumed(tmp_path):
    model, path = compiled(), tmp_path / "log.csv"
    for first, last in ((0, 2), (2, 3)):
        prune = Prune(sparsity=0.75, total_steps=12)
        fit(model, prune, keras.callbacks.CSVLogger(path, append=first > 0), epochs=last, initial_epoch=first)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert "sparsity" in lines[0] and len(lines) == 1 + 3
    assert {len(line) for line in lines} == {len(lines[0])}


def test_the_steps_without_an_update_read_nothing_from_the_device(monkeypatch):
    reads, at_batches = [0], []

    def counted(function):
        def call(*arguments):
            reads[0] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(backend_ops, "to_numpy", counted(backend_ops.to_numpy))
    monkeypatch.setattr(ops, "convert_to_numpy", counted(ops.convert_to_numpy))
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: at_batches.append(reads[0]))
    prune = Prune(tfsparse.OneCycle(updates=2), 0.75)
    compiled().fit(*testing.small_data(), batch_size=2, verbose=0, callbacks=[prune, note])
    per_batch = np.diff(at_batches)
    assert len(per_batch) > 20 and np.count_nonzero(per_batch) <= 4, per_batch
