"""The cycle against NumPy, inside the compiled step and not only in Python."""

import keras
import numpy as np
import pytest

from tfsparse.optimizers.learning_rates import OneCycleAdam, OneCycleAdamW, OneCycleRate, OneCycleSGD, StepRate

# Keras' own convert_to_numpy, whenever a Variable is read or saved under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 12
RATE = OneCycleRate(0.1, total_steps=STEPS)


def cosines(step, start, middle, end, warmup=0.25, total=STEPS):
    """fastai's `combined_cos`, written down again in float64."""
    position = step / total
    if position < warmup:
        begin, finish, within = start, middle, position / warmup
    else:
        begin, finish, within = middle, end, (position - warmup) / (1 - warmup)
    return begin + (1 + np.cos(np.pi * (1 - within))) * (finish - begin) / 2


def rate(step):
    return cosines(step, 0.1 / 25, 0.1, 0.1 / 1e5)


def momentum(step):
    return cosines(step, 0.95, 0.85, 0.95)


class Quadratic(keras.Model):
    """Loss 0.5 |w - x|^2 summed over three coordinates, whose gradient w - x can be written down."""

    def __init__(self):
        super().__init__()
        self.w = self.add_weight(shape=(3,), initializer="ones", name="w")

    def call(self, x):
        return keras.ops.sum(0.5 * keras.ops.square(self.w - x), axis=-1, keepdims=True)


TARGETS = np.random.default_rng(0).normal(size=(STEPS, 3)).astype("float32")


def train(optimizer, steps=STEPS, **compile_arguments):
    model = Quadratic()
    model.compile(optimizer, loss=lambda _, value: value, **compile_arguments)
    batches = [(x[None], np.zeros((1, 1), "float32")) for x in TARGETS[:steps]]
    for x, y in batches:
        model.train_on_batch(x, y)
    return keras.ops.convert_to_numpy(model.w)


def sgd(nesterov):
    w, m = np.ones(3), np.zeros(3)
    for step, x in enumerate(TARGETS):
        gradient = w - x
        m = momentum(step) * m - rate(step) * gradient
        w = w + (momentum(step) * m - rate(step) * gradient if nesterov else m)
    return w


def adam(weight_decay=0.0, beta_2=0.99, epsilon=1e-5):
    w, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    for step, x in enumerate(TARGETS):
        beta_1, gradient = momentum(step), w - x
        w = w - rate(step) * weight_decay * w
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
        alpha = rate(step) * np.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))
        w = w - alpha * m / (np.sqrt(v) + epsilon)
    return w


def test_rate_is_fastais():
    steps = [0, 1, 2.5, 3, 7, 11, 12]
    np.testing.assert_allclose([float(RATE(step)) for step in steps], [rate(step) for step in steps], rtol=1e-5)
    np.testing.assert_allclose([float(RATE(s)) for s in (0, 3, 12)], [0.004, 0.1, 1e-6], rtol=1e-5)


def test_rate_stays_where_it_ended():
    assert float(RATE(10 * STEPS)) == float(RATE(STEPS))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_in_the_compiled_step_is_the_numpy_simulation(jit_compile, nesterov):
    trained = train(OneCycleSGD(RATE, nesterov=nesterov), jit_compile=jit_compile)
    np.testing.assert_allclose(trained, sgd(nesterov), rtol=2e-5)
    constant = train(keras.optimizers.SGD(RATE, momentum=0.95, nesterov=nesterov), jit_compile=jit_compile)
    assert np.abs(trained - constant).max() > 1e-3


@pytest.mark.parametrize("jit_compile", [False, True])
def test_adam_in_the_compiled_step_is_the_numpy_simulation(jit_compile):
    trained = train(OneCycleAdam(RATE), jit_compile=jit_compile)
    np.testing.assert_allclose(trained, adam(), rtol=2e-5)
    constant = train(keras.optimizers.Adam(RATE, beta_1=0.95, beta_2=0.99, epsilon=1e-5), jit_compile=jit_compile)
    assert np.abs(trained - constant).max() > 1e-3


def test_adamw_decays_the_weights_besides():
    np.testing.assert_allclose(train(OneCycleAdamW(RATE, weight_decay=0.3)), adam(weight_decay=0.3), rtol=2e-5)


@pytest.mark.parametrize("optimizer", [OneCycleSGD, OneCycleAdam])
def test_momentum_counts_batches_as_the_rate_does_when_gradients_are_accumulated(optimizer):
    accumulating = optimizer(RATE, gradient_accumulation_steps=2)
    train(accumulating, steps=4)
    np.testing.assert_allclose(float(accumulating.learning_rate), rate(4), rtol=1e-5)
    np.testing.assert_allclose(float(accumulating.current_momentum()), momentum(4), rtol=1e-5)


@pytest.mark.parametrize("optimizer", [OneCycleSGD, OneCycleAdam, OneCycleAdamW])
def test_configs_come_back(optimizer):
    first = optimizer(OneCycleRate(0.1, STEPS, warmup=0.5, final_divisor=10.0), momentum_range=(0.5, 0.6))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(first))
    assert type(again) is optimizer
    assert again.get_config() == first.get_config()
    np.testing.assert_array_equal(train(again), train(optimizer.from_config(first.get_config())))


@pytest.mark.parametrize("optimizer", [OneCycleSGD, OneCycleAdamW])
def test_a_saved_run_resumes_in_the_middle_of_the_cycle(optimizer, tmp_path):
    def step(model, batches):
        for x in batches:
            model.train_on_batch(x[None], np.zeros((1, 1), "float32"))
        return keras.ops.convert_to_numpy(model.layers[-1].kernel)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer(RATE), loss="mse")
    step(model, TARGETS[:5])
    model.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(step(resumed, TARGETS[5:]), step(model, TARGETS[5:]))
    assert int(resumed.optimizer.iterations) == STEPS


@pytest.mark.parametrize("optimizer", [OneCycleSGD, OneCycleAdam])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_weights_keep_their_dtype(optimizer, dtype):
    weight = keras.Variable(np.ones(3), dtype=dtype)
    optimizer(RATE).apply([keras.ops.ones(3, dtype=dtype)], [weight])
    assert keras.backend.standardize_dtype(weight.dtype) == dtype
    assert float(keras.ops.max(keras.ops.cast(weight, "float32"))) < 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"total_steps": 0}, r"total_steps=0.*write e.g. OneCycleRate\(0.1"),
        ({"total_steps": 9, "warmup": 25}, "warmup=25 a fraction"),
        ({"total_steps": 9, "final_divisor": 0}, "final_divisor=0 must be positive"),
    ],
)
def test_rate_refuses_what_is_no_cycle(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        OneCycleRate(0.1, **settings)


def test_optimizers_refuse_other_rates_and_impossible_momentum():
    with pytest.raises(ValueError, match=r"must be a OneCycleRate, .*, not 0.1: write OneCycleAdam\(OneCycleRate"):
        OneCycleAdam(0.1)
    with pytest.raises(ValueError, match=r"momentum_range=\(0.95, 0.85\)"):
        OneCycleSGD(RATE, momentum_range=(0.95, 0.85))


# ----------------------------------------------------------------------------------------------------------- StepRate


def test_step_rate_warms_up_and_falls_at_its_boundaries():
    rate = StepRate(0.1, total_steps=20, boundaries=(0.5, 0.75), factor=0.1, warmup=0.2)
    values = [float(rate(step)) for step in (0, 1, 4, 9, 10, 14, 15, 40)]
    np.testing.assert_allclose(values, [0, 0.025, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


def test_step_rate_comes_back_from_its_config_also_by_its_old_name():
    rate = StepRate(0.1, total_steps=20, boundaries=(0.5,), factor=0.2)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert again.get_config() == rate.get_config() and float(again(10)) == pytest.approx(0.02)
    config = rate.get_config()
    old = {key: value for key, value in config.items() if key != "boundaries"} | {"at": [0.5]}
    assert StepRate.from_config(old).get_config() == config


@pytest.mark.parametrize(
    "options",
    [
        {"first": 0},
        {"boundaries": (0.5, 0.2)},
        {"boundaries": (1.0,)},
        {"factor": 0},
        {"warmup": 1},
        {"total_steps": 0},
    ],
)
def test_step_rate_refuses_arguments_outside_their_ranges(options):
    with pytest.raises(ValueError, match="rising fractions of training"):
        StepRate(**{"first": 0.1, "total_steps": 10, **options})
