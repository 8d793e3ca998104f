import numpy as np
from keras import ops

from tfsparse.backend import derivatives


def test_derivatives_of_a_cubic_function():
    first, second = np.array([1.0, 2.0], "float32"), np.array([3.0], "float32")

    def function(tensors):  # a^3 + a b
        return ops.sum(tensors[0] ** 3) + ops.sum(tensors[0] * tensors[1])

    tensors = [ops.convert_to_tensor(first), ops.convert_to_tensor(second), ops.convert_to_tensor(second)]
    found = [ops.convert_to_numpy(g) for g in derivatives.gradients(function, tensors)]
    np.testing.assert_allclose(np.concatenate(found), [6, 15, 3, 0])  # the last is not used
    vectors = [ops.convert_to_tensor([1.0, -1.0]), ops.convert_to_tensor([2.0]), ops.convert_to_tensor([5.0])]
    found = [ops.convert_to_numpy(p) for p in derivatives.hessian_product(function, tensors, vectors)]
    np.testing.assert_allclose(np.concatenate(found), [6 + 2, -12 + 2, 0, 0])
