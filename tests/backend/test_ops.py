import keras
import numpy as np
import pytest
from keras import ops

from tfsparse.backend import ops as backend_ops


def test_histogram_drops_values_beyond_its_length():
    values = ops.convert_to_tensor(np.array([0, 3, 3, 1, 9, 4], "int32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(backend_ops.histogram(values, 4)), [1, 1, 0, 2])


def test_when_assigns_only_if_the_condition_is_true():
    variable = keras.Variable(0.0)
    for condition in (False, True, False):
        backend_ops.when(ops.convert_to_tensor(condition), lambda: variable.assign_add(1.0), [variable])
    assert float(ops.convert_to_numpy(variable)) == 1.0


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="on TensorFlow variables are assigned in place")
def test_when_copies_nothing_if_the_condition_is_false():
    import jax

    variable = keras.Variable(np.zeros((64, 32), "float32"))

    def step(condition, value):
        with keras.StatelessScope([(variable, value + 1)]) as scope:
            backend_ops.when(condition, lambda: variable.assign(ops.sort(variable, axis=0)), [variable])
        return scope.get_current_value(variable)

    compiled = jax.jit(step, donate_argnums=1).lower(True, variable.value).compile().as_text()
    entry = compiled[compiled.index("ENTRY") :]
    assert "while(" in entry and "f32[64,32]{1,0} copy(" not in entry and "conditional(" not in compiled



def test_cond_runs_one_branch():
    taken = []
    backend_ops.cond(ops.convert_to_tensor(True), lambda: taken.append("true"), lambda: taken.append("false"))
    assert taken == ["true"]


def test_read_returns_the_present_value():
    variable = keras.Variable(1.0)
    before = backend_ops.read(variable)
    variable.assign(2.0)
    assert float(ops.convert_to_numpy(before)) == 1.0
    assert backend_ops.to_int(keras.Variable(3, dtype="int32")) == 3


def test_masked_zeros_are_positive():
    values, mask = ops.convert_to_tensor([-1.0, 2.0, -3.0]), ops.convert_to_tensor([0.0, 1.0, 1.0])
    masked = ops.convert_to_numpy(backend_ops.masked(values, mask))
    np.testing.assert_array_equal(masked, [0, 2, -3])
    assert not np.signbit(masked[0])


def test_masked_entries_hold_what_is_asked_for():
    values, mask = ops.convert_to_tensor([np.nan, -2.0]), ops.convert_to_tensor([0.0, 1.0])
    np.testing.assert_array_equal(ops.convert_to_numpy(backend_ops.masked(values, mask, pruned=0.25)), [0.25, -2])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_packbits_equals_numpys_for_arrays_and_tensors(dtype):
    random = np.random.default_rng(0)
    masks = [(random.random(shape) < 0.5).astype("float32") for shape in [(7, 3), (1,), (2, 5, 4)]]
    expected = np.packbits(np.concatenate([m.ravel() != 0 for m in masks]))
    np.testing.assert_array_equal(backend_ops.packbits(masks), expected)
    tensors = [ops.convert_to_tensor(m, dtype) for m in masks]
    np.testing.assert_array_equal(backend_ops.packbits(tensors), expected)
    np.testing.assert_array_equal(backend_ops.packbits(tensors[:1]), np.packbits(masks[0] != 0))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a kernel of TensorFlow")
def test_histograms_are_slow_on_gpus_where_determinism_is_asked_for(monkeypatch):
    import tensorflow as tf

    from tfsparse.backend import keras_internals

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert not backend_ops.histograms_are_slow()
    monkeypatch.setattr(keras_internals, "op_determinism_is_enabled", lambda: True)
    assert backend_ops.histograms_are_slow()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert not backend_ops.histograms_are_slow()


def test_count():
    assert int(backend_ops.count(np.arange(5) < 3)) == 3


def test_count_each_counts_every_tensor():
    flags = [ops.convert_to_tensor(np.arange(9) < n) for n in (0, 4, 9)]
    assert ops.convert_to_numpy(backend_ops.count_each(flags)).tolist() == [0, 4, 9]


def test_count_each_counts_rows():
    rows = ops.convert_to_tensor(np.arange(6).reshape(2, 3))
    assert ops.convert_to_numpy(backend_ops.count_each([rows < n for n in (1, 4)])).tolist() == [[1, 0], [3, 1]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles with XLA")
def test_count_each_counts_under_xla():
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def counts(values):
        assert backend_ops.uses_xla()
        return backend_ops.count_each([values < n for n in (0, 4, 9)])

    assert not backend_ops.uses_xla()
    assert counts(tf.range(9)).numpy().tolist() == [0, 4, 9]
    assert counts(tf.reshape(tf.range(6), (2, 3))).numpy().tolist() == [[0, 0], [3, 1], [3, 3]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX traces for each length")
def test_a_function_is_traced_once_for_all_lengths():
    traces = []

    def doubled(factor, values):
        traces.append(values.shape)
        return factor * values

    function = backend_ops.traced_for_all_lengths(doubled, 2.0)
    for length in (2, 3, 5):
        np.testing.assert_array_equal(function(ops.ones(length)), np.full(length, 2.0))
    assert len(traces) == 1
    assert function is backend_ops.traced_for_all_lengths(doubled, 2.0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA orders by itself")
def test_updates_in_turn_wait_for_the_assignment_before():
    import tensorflow as tf

    from tfsparse.backend import replicas

    variables = [tf.Variable(tf.ones(3)) for _ in range(3)]

    @tf.function(autograph=False)
    def update():
        backend_ops.make_in_turn(replicas.update(v, lambda v, a: v * a, tf.constant(2.0)) for v in variables)

    operations = update.get_concrete_function().graph.get_operations()
    assigned = [op for op in operations if op.type == "AssignVariableOp"]
    products = [op for op in operations if op.type == "Mul"]
    assert len(assigned) == len(products) == 3
    for before, product in zip(assigned, products[1:], strict=False):
        assert any(before in op.control_inputs for op in (product, *(tensor.op for tensor in product.inputs)))
    update()
    assert all(v.numpy().tolist() == [2.0] * 3 for v in variables)
