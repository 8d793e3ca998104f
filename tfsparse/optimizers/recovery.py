"""What a pruned layer has lost is put into the weights that it keeps, in closed form."""

import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.optimizers.calibration import layer_of

_RIDGE = 0.01  # as the damping of SparseGPT


def recover(calibration, dense: list) -> None:
    """Fit the living weights and the biases of each pruned layer to the outputs before pruning, layer after layer.

        X: inputs of the pruned layer, X0: of the dense one; each minus its mean
        w = argmin over the living weights of an output: |X w - X0 w0|^2 + ridge * mean |column of X|^2 * |w - w0|^2
        b = b + mean output before - mean output now

    Args:
        calibration: The `Calibration` of the model, whose weights are pruned now.
        dense: Arrays, the values of its weights before pruning.

    Source:
        Ridge regression; a closed form for all weights at once instead of the column order of Frantar & Alistarh,
        "SparseGPT" (ICML 2023).
    """
    biases = [layer_of(calibration.model, weight).bias for weight in calibration.weights]
    present = [bias for bias in biases if bias is not None]

    def inputs_of(weights, values):
        return calibration.layer_inputs(weights, zip(present, values, strict=True))

    def inputs(weights):
        # biases are arguments: JAX compiles all other variables as constants, and biases change between the calls
        return [_float64(x) for x in compiled(weights, [*map(backend_ops.read, present)])]

    compiled = backend_ops.compiled(inputs_of)
    dense_inputs = inputs([ops.convert_to_tensor(w) for w in dense])
    shapes = calibration.matrix_shapes()
    for i, (variable, bias, shape) in enumerate(zip(calibration.weights, biases, shapes, strict=True)):
        now = inputs([*map(backend_ops.read, calibration.weights)])[i]
        kernel = _float64(variable).reshape(shape)
        before = dense_inputs[i] @ np.asarray(dense[i], "float64").reshape(shape)
        fitted = _fitted(now, before, kernel)
        variable.assign(fitted.reshape(variable.shape).astype("float32"))
        if bias is not None:
            bias.assign_add((before.mean(axis=0) - now.mean(axis=0) @ fitted).reshape(bias.shape).astype("float32"))


def _fitted(inputs, outputs, kernel):
    """Return the kernel whose living entries fit the outputs, up to a constant for each output."""
    centered = inputs - inputs.mean(axis=0)
    gram, cross = centered.T @ centered, centered.T @ (outputs - outputs.mean(axis=0))
    ridge = _RIDGE * max(np.trace(gram) / len(gram), 1e-12)
    fitted = np.zeros_like(kernel)
    for column in range(kernel.shape[1]):
        living = np.flatnonzero(kernel[:, column])
        matrix = gram[np.ix_(living, living)] + ridge * np.eye(len(living))
        fitted[living, column] = np.linalg.solve(matrix, cross[living, column] + ridge * kernel[living, column])
    return fitted


def _float64(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")
