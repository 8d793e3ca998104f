"""Wrote the files beside it, with the code of commit a9375f0: `git checkout a9375f0`, then `python make.py DIRECTORY`.

Later code must load these files. Run it only with that commit: its purpose is to hold files of an older version.
"""

import pathlib
import sys

import keras
import numpy as np

import tfsparse

SPARSITY, EPOCHS = 0.75, 2


def data():
    random = np.random.default_rng(3)
    return random.normal(size=(64, 8)).astype("float32"), random.integers(0, 4, 64)


def model():
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(4, name="head"),
        ]
    )


def trained(net, optimizer, callbacks):
    net.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    net.fit(*data(), batch_size=16, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    return net


def keras_files(directory):
    from tfsparse.zoo import one_cycle, step_rate

    sgd = lambda: keras.optimizers.SGD(0.1, momentum=0.9)  # noqa: E731
    half = tfsparse.Prune(sparsity=SPARSITY, total_steps=16)  # 8 of 16 steps: the file is from mid-schedule
    wide = tfsparse.Magnitude(scope="global")
    trained(model(), sgd(), [half]).save(directory / "half_way.keras")
    trained(model(), "adam", [tfsparse.Prune(sparsity=SPARSITY, pruner=wide)]).save(directory / "global.keras")
    trained(model(), sgd(), [tfsparse.Prune(sparsity=SPARSITY, pruner="feather")]).save(directory / "feather.keras")
    trained(model(), sgd(), [tfsparse.Prune("constant", SPARSITY, "rigl")]).save(directory / "rigl.keras")
    trained(model(), "sgd", [tfsparse.PruneGSM(compression=4)]).save(directory / "gsm.keras")
    pll = tfsparse.PLL(tuple(a[:16] for a in data()), sparsity=SPARSITY, every=1)
    trained(model(), sgd(), [pll]).save(directory / "pll.keras")
    trained(tfsparse.dst(model(), 1e-3), sgd(), [tfsparse.DST(SPARSITY)]).save(directory / "dst.keras")
    rate = one_cycle.OneCycleRate(0.1, total_steps=8)
    trained(model(), one_cycle.OneCycleAdam(rate), [tfsparse.Prune(sparsity=SPARSITY)]).save(
        directory / "one_cycle_rate.keras"
    )
    rate = step_rate.StepRate(0.1, total_steps=8, at=(0.5,))
    trained(model(), keras.optimizers.SGD(rate), [tfsparse.Prune(sparsity=SPARSITY)]).save(directory / "step_rate.keras")


def tfmot_files(directory):
    import tf_keras

    def net():
        tf_keras.utils.set_random_seed(7)
        return tf_keras.Sequential(
            [tf_keras.Input((8,)), tf_keras.layers.Dense(16, "relu", name="hidden"), tf_keras.layers.Dense(4, name="head")]
        )

    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapped = tfsparse.tfmot.prune_low_magnitude(net())
    wrapped.compile("adam", loss)
    wrapped.fit(
        *data(), batch_size=16, epochs=EPOCHS, shuffle=False, verbose=0,
        callbacks=[tfsparse.tfmot.Prune("one_cycle", sparsity=SPARSITY)],
    )
    wrapped.save(directory / "tfmot.keras")
    thresholds = tfsparse.tfmot.dst(net(), 1e-3)
    thresholds.compile(tfsparse.tfmot.GSM(5e-3, compression=4), loss)
    thresholds.fit(*data(), batch_size=16, epochs=EPOCHS, shuffle=False, verbose=0)
    thresholds.save(directory / "tfmot_dst.keras")


def run_directories(directory):
    """A run of the command line, interrupted in its second epoch."""
    from tfsparse import config
    from tfsparse.experiments import experiment

    values = {
        "name": "digits",
        "epochs": 2,
        "data": {"name": "digits", "batch_size": 64},
        "model": {"name": "mlp", "widths": [16]},
        "optimizer": {"name": "sgd", "learning_rate": {"name": "one_cycle", "max": 0.1}, "momentum": "one_cycle"},
        "prune": {"sparsity": SPARSITY},
    }

    def stop(epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    try:
        experiment.train(
            config.validate(values), directory / "run", callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=stop)]
        )
    except KeyboardInterrupt:
        pass


def activation_density(directory):
    """A training that shrinks, interrupted after its resize."""
    net = model()
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    driver = tfsparse.ActivationDensity(net, prune_epochs=(1,), smallest=4, directory=directory / "activation_density")

    def stop(epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    try:
        driver.fit(
            *data(), batch_size=16, epochs=4, verbose=0, validation_data=data(),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=stop)],
        )
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    keras_files(target)
    run_directories(target)
    activation_density(target)
    tfmot_files(target)
