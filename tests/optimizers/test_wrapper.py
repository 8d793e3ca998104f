"""Every public member of a Keras optimizer is forwarded to the inner optimizer, kept, or refused in one sentence."""

import keras
import numpy as np
import pytest
from keras import ops

from tfsparse import Magnitude, Prune, SparseOptimizer, testing

ON_JAX = keras.backend.backend() == "jax"


class Case:
    """A `SparseOptimizer` around AdamW, built on a kernel and a bias or not yet, with a gradient for each."""

    def __init__(self, inner=None, built=True, **options):
        self.inner = inner or keras.optimizers.AdamW(0.1, weight_decay=0.5, name="inner", **options)
        self.optimizer = SparseOptimizer(self.inner, "constant", 0.5, total_steps=9)
        self.variables = [
            keras.Variable(np.arange(1.0, 7.0, dtype="float32").reshape(2, 3), name="kernel"),
            keras.Variable(np.ones(3, "float32"), name="bias"),
        ]
        self.gradients = [ops.ones((2, 3)), ops.ones(3)]
        if built:
            self.optimizer.build(self.variables)

    def step(self):
        self.optimizer.apply(self.gradients, self.variables)
        return self.values()

    def values(self):
        return [ops.convert_to_numpy(v) for v in self.variables]


def forwarded(name, value):
    """Return a check that an attribute reads and writes that of the inner optimizer."""

    def check():
        case = Case()
        setattr(case.optimizer, name, value)
        inner = getattr(case.inner, name)
        assert inner is not None and np.isclose(float(ops.convert_to_numpy(inner)), value)
        assert getattr(case.optimizer, name) is inner or getattr(case.optimizer, name) == inner

    return check


def clips(**option):
    """Return a check that clipping that is set on the wrapper is that of the inner optimizer."""
    (name, value) = next(iter(option.items()))

    def check():
        forwarded(name, value)()
        late, early = Case(keras.optimizers.SGD(1.0)), Case(keras.optimizers.SGD(1.0, **option))
        setattr(late.optimizer, name, value)
        for a, b in zip(late.step(), early.step(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(late.values()[1], Case(keras.optimizers.SGD(1.0)).step()[1])

    return check


def check_iterations():
    case = Case()
    case.step()
    assert case.optimizer.iterations is case.inner.iterations and int(ops.convert_to_numpy(case.inner.iterations)) == 1


def check_variables():
    case = Case()
    own, inner = case.optimizer.variables, case.inner.variables
    assert [id(v) for v in own[-len(inner) :]] == [id(v) for v in inner]
    assert len({id(v) for v in own}) == len(own) > len(inner)


def check_set_weights():
    case, other = Case(), Case()
    case.step()
    other.optimizer.set_weights([ops.convert_to_numpy(v) for v in case.optimizer.variables])
    for a, b in zip(case.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    with pytest.raises(ValueError, match="has not yet been built"):
        Case(built=False).optimizer.set_weights([])


def check_exclude_from_weight_decay():
    case = Case(built=False)
    case.optimizer.exclude_from_weight_decay(var_names=["bias"])
    alone = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    alone.exclude_from_weight_decay(var_names=["bias"])
    bias = Case().variables[1]
    alone.apply([ops.ones(3)], [bias])
    np.testing.assert_array_equal(case.step()[1], ops.convert_to_numpy(bias))
    assert not np.array_equal(case.values()[1], Case().step()[1])


def check_scale_loss():
    case = Case()
    case.optimizer.loss_scale_factor = 4.0
    assert float(case.optimizer.scale_loss(2.0)) == 8


def check_apply():
    case = Case()
    assert np.count_nonzero(case.step()[0]) == 3
    before = case.values()
    assert case.optimizer.apply([]) is None
    for a, b in zip(before, case.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def check_apply_gradients():
    case, plain = Case(), keras.optimizers.AdamW()
    (variable,) = Case().variables[1:]
    returned = case.optimizer.apply_gradients(zip(case.gradients, case.variables, strict=True))
    assert int(ops.convert_to_numpy(returned)) == int(
        ops.convert_to_numpy(plain.apply_gradients([(ops.ones(3), variable)]))
    )
    assert np.count_nonzero(case.values()[0]) == 3


def check_stateless_apply():
    case, other = Case(), Case()
    values = ([v.value for v in items] for items in (case.optimizer.variables, case.variables))
    if not ON_JAX:
        with pytest.raises(ValueError, match="not supported with the TensorFlow backend"):
            case.optimizer.stateless_apply(next(values), case.gradients, next(values))
        return
    state, weights = values
    new_weights, new_state = case.optimizer.stateless_apply(state, case.gradients, weights)
    for a, b in zip(new_weights, other.step(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(new_state, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, ops.convert_to_numpy(b))


def check_finalize_variable_values():
    case = Case(use_ema=True, ema_momentum=0.5)
    case.step()
    average = ops.convert_to_numpy(next(v for v in case.inner.variables if "average" in v.path))
    case.optimizer.finalize_variable_values(case.variables)
    np.testing.assert_array_equal(case.values()[0], average)
    Case(built=False).optimizer.finalize_variable_values([])  # nothing was averaged


def check_build():
    case = Case(built=False, use_ema=True, gradient_accumulation_steps=2)
    assert not case.optimizer.built and not case.inner.built
    case.optimizer.build(case.variables)
    assert case.optimizer.built and case.inner.built
    own = case.optimizer.variables[: -len(case.inner.variables)]
    assert not [v.path for v in own if "average" in v.path or "accumulator" in v.path], "the inner optimizer has these"
    case.optimizer.build(case.variables)  # as LossScaleOptimizer does
    assert len(case.optimizer.variables) == len(own) + len(case.inner.variables)


def check_config():
    case = Case()
    copy = SparseOptimizer.from_config(case.optimizer.get_config())
    assert copy.get_config() == case.optimizer.get_config() and type(copy.inner_optimizer) is type(case.inner)


def check_own_variables():
    case, other, store = Case(), Case(), {}
    case.step()
    case.optimizer.save_own_variables(store)
    other.optimizer.load_own_variables(store)
    mask = ops.convert_to_numpy(other.optimizer.masks[0])
    np.testing.assert_array_equal(mask, ops.convert_to_numpy(case.optimizer.masks[0]))
    assert not mask.all()


def check_name():
    assert (Case().optimizer.name, SparseOptimizer("sgd", name="mine").name) == ("sparse_inner", "mine")


def check_add_variable():
    case = Case()
    case.optimizer.add_variable((2,), name="another")
    case.optimizer.add_variable_from_reference(case.variables[0], name="another")
    case.optimizer.add_optimizer_variables(case.variables, name="another")
    assert sum("another" in v.path for v in case.optimizer.variables) == 4


def check_assign():
    case = Case()
    bias = case.variables[1]
    case.optimizer.assign(bias, ops.ones(3) * 5)
    case.optimizer.assign_add(bias, ops.ones(3) * 2)
    case.optimizer.assign_sub(bias, ops.ones(3))
    np.testing.assert_array_equal(case.values()[1], 6)


def check_update_step():
    case = Case()
    with pytest.raises(NotImplementedError, match=r"SparseOptimizer .*optimizer.apply\(\[gradient\], \[variable\]\)"):
        case.optimizer.update_step(case.gradients[0], case.variables[0], 0.1)


MEMBERS = {
    "learning_rate": forwarded("learning_rate", 0.25),
    "weight_decay": forwarded("weight_decay", 0.25),
    "clipnorm": clips(clipnorm=0.5),
    "clipvalue": clips(clipvalue=0.5),
    "global_clipnorm": clips(global_clipnorm=0.5),
    "use_ema": forwarded("use_ema", 1),
    "ema_momentum": forwarded("ema_momentum", 0.25),
    "ema_overwrite_frequency": forwarded("ema_overwrite_frequency", 3),
    "gradient_accumulation_steps": forwarded("gradient_accumulation_steps", 3),
    "loss_scale_factor": forwarded("loss_scale_factor", 4.0),
    "iterations": check_iterations,
    "variables": check_variables,
    "set_weights": check_set_weights,
    "exclude_from_weight_decay": check_exclude_from_weight_decay,
    "scale_loss": check_scale_loss,
    "apply": check_apply,
    "apply_gradients": check_apply_gradients,
    "stateless_apply": check_stateless_apply,
    "finalize_variable_values": check_finalize_variable_values,
    "build": check_build,
    "built": check_build,
    "get_config": check_config,
    "from_config": check_config,
    "save_own_variables": check_own_variables,
    "load_own_variables": check_own_variables,
    "name": check_name,
    "add_variable": check_add_variable,
    "add_variable_from_reference": check_add_variable,
    "add_optimizer_variables": check_add_variable,
    "assign": check_assign,
    "assign_add": check_assign,
    "assign_sub": check_assign,
    "update_step": check_update_step,
}


def test_every_public_member_of_a_keras_optimizer_has_a_check_here():
    optimizer = keras.optimizers.Optimizer(0.1)
    public = {name for name in {*dir(optimizer), *vars(optimizer)} if not name.startswith("_")}
    assert public == set(MEMBERS), "Keras has other members now: forward, keep or refuse them in OptimizerWrapper"


@pytest.mark.parametrize("name", MEMBERS)
def test_member(name):
    MEMBERS[name]()


def make_step(optimizer, gradients, variables):
    """Make a step as `fit` does it: LossScaleOptimizer has no other on JAX."""
    if not ON_JAX:
        optimizer.apply(gradients, variables)
        return
    optimizer.built or optimizer.build(variables)
    own = optimizer.variables
    values = optimizer.stateless_apply([v.value for v in own], gradients, [v.value for v in variables])
    for variable, value in zip([*variables, *own], [v for part in values for v in part], strict=True):
        variable.assign(value)


def averages_of_sparse_weights(momentum, steps):
    """What a kernel's average is after some steps, by hand."""
    case, average = Case(keras.optimizers.SGD(0.5)), None
    for _ in range(steps):
        weight = case.step()[0]
        average = weight if average is None else momentum * average + (1 - momentum) * weight
    return average * (weight != 0)


@pytest.mark.parametrize("scaled", [True, False], ids=["in LossScaleOptimizer", "alone"])
def test_averages_that_are_swapped_in_are_those_of_the_sparse_weights(scaled):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    case = Case(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5), built=False)
    model.trainable_variables[0].assign(case.variables[0])
    optimizer = case.optimizer
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0) if scaled else optimizer, "mse")
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    for steps in (1, 2, 3):
        make_step(model.optimizer, case.gradients, model.trainable_variables)
        trained = ops.convert_to_numpy(model.trainable_variables[0])
        swap.on_test_begin()
        averages = ops.convert_to_numpy(model.trainable_variables[0])
        np.testing.assert_allclose(averages, averages_of_sparse_weights(0.5, steps), rtol=1e-6)
        assert np.count_nonzero(averages) == 3
        swap.on_test_end()
        np.testing.assert_allclose(ops.convert_to_numpy(model.trainable_variables[0]), trained, rtol=1e-6)


@pytest.mark.parametrize("scaled", [True, False], ids=["in LossScaleOptimizer", "alone"])
def test_a_checkpoint_of_swapped_averages_is_sparse(scaled, tmp_path):
    x, y = testing.small_data()
    model, path = testing.small_model(), str(tmp_path / "{epoch}.weights.h5")
    inner = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0) if scaled else inner
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    prune = Prune("constant", 0.5, Magnitude(scope="layer"))
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, validation_data=(x, y), callbacks=[prune, swap, save])
    trained = model.get_layer("hidden").kernel.numpy()
    for epoch in (1, 2):
        model.load_weights(path.format(epoch=epoch))
        saved = model.get_layer("hidden").kernel.numpy()
        assert np.mean(saved == 0) == 0.5
    np.testing.assert_array_equal(saved == 0, trained == 0)
