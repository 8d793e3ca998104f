"""What do trainable thresholds cost per step, and is it worth writing their gradient out?

One layer, forward and backward, on TensorFlow: dense, thresholded, and thresholded with the surrogate left to automatic
differentiation; as a graph and compiled by XLA. The three alternate, and of each the fastest of 40 rounds counts.
Prints milliseconds and ratios to dense:

    python benchmarks/dst_step.py
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tables
import tensorflow as tf
from keras import ops

from tfsparse.methods.dst import thresholds

ROUNDS, CALLS = 40, 10
LAYERS = {
    "Dense 784 -> 300, batch 64": ((64, 784), (784, 300), lambda x, w: x @ w),
    "Conv 3x3, 64 -> 64, batch 32 of 16x16": (
        (32, 16, 16, 64),
        (3, 3, 64, 64),
        lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"),
    ),
}


def plain(kernel, threshold):
    """No mask at all."""
    return kernel + 0 * tf.reduce_sum(threshold)


def differentiated(kernel, threshold):
    """The same mask and the same derivatives, found by automatic differentiation."""
    x = thresholds.margin(kernel, threshold)
    here = ops.stop_gradient(x)
    slope = ops.stop_gradient(thresholds.surrogate(here))
    return kernel * (ops.cast(here > 0, kernel.dtype) + slope * (x - here))


def step(shape, kernel_shape, apply, mask, jit):
    """A compiled function of nothing: one forward and one backward pass."""
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=shape).astype("float32"))
    kernel = tf.Variable(random.normal(size=kernel_shape).astype("float32") * 0.03)
    units = len(kernel_shape) - 1
    threshold = tf.Variable(np.full(thresholds.threshold_shape("vector", kernel_shape, (units,)), 0.02, "float32"))

    @tf.function(jit_compile=jit)
    def run():
        with tf.GradientTape() as tape:
            result = apply(x, mask(tf.convert_to_tensor(kernel), tf.convert_to_tensor(threshold)))
            loss = tf.reduce_sum(tf.square(result))
        return tape.gradient(loss, [kernel, threshold])

    return run


def fastest(functions: dict) -> dict:
    """Milliseconds per call of each, in turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            function()
            begun = time.perf_counter()
            for _ in range(CALLS):
                function()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begun) / CALLS)
    return best


def rows(name: str) -> list[list[str]]:
    """Of one layer: a row for the graph and one for XLA."""
    result = []
    for jit in (False, True):
        masks = {"dense": plain, "ours": thresholds.masked, "differentiated": differentiated}
        times = fastest({key: step(*LAYERS[name], mask, jit) for key, mask in masks.items()})
        ratios = [f"{t:.2f} ({t / times['dense']:.2f}x)" for t in times.values()]
        result.append([name, "XLA" if jit else "graph", *ratios])
    return result


if __name__ == "__main__":
    titles = ["layer", "", "dense, ms", "thresholded", "by automatic differentiation"]
    print(tables.markdown(titles, [row for layer in LAYERS for row in rows(layer)]))
