"""First and second derivatives of functions of tensors, on TensorFlow and JAX."""

from collections.abc import Callable

import keras

from tfsparse.backend import keras_internals


def gradients(function: Callable, tensors) -> list:
    """Return the gradient of `function(tensors)`, a scalar, with respect to a list of tensors.

    It is zero for a tensor that the function does not use.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(list(tensors))
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = function(tensors)
    return tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def hessian_product(function: Callable, tensors, vectors) -> list:
    """Return the Hessian of `function(tensors)`, a scalar, times vectors of the shapes of a list of tensors."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jvp(jax.grad(function), (list(tensors),), (list(vectors),))[1]
    return tensorflow_hvp(lambda: function(tensors), tensors, vectors)


def tensorflow_hvp(loss, sources, vectors) -> list:
    """Return the derivative of the gradient of `loss()` with respect to `sources`, in the direction of `vectors`.

    Args:
        loss: Function without arguments that returns a scalar.
        sources: Tensors that it uses, or TensorFlow variables that it reads.
        vectors: Tensors of the shapes of `sources`.

    Returns:
        A list of tensors of these shapes.
    """
    import tensorflow as tf

    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(sources)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(sources)
            with _differentiable_variance():
                value = loss()
        gradients = [tf.convert_to_tensor(g) for g in inner.gradient(value, sources, unconnected_gradients=zero)]
    # the products of the gradients with `vectors`, differentiated once more
    products = outer.gradient(gradients, sources, output_gradients=vectors, unconnected_gradients=zero)
    return [tf.convert_to_tensor(p) for p in products]


def _differentiable_variance():
    """Replace `tf.nn.moments`, which all normalisations of Keras use, by a function with the right second derivative.

    TensorFlow treats the mean inside of the variance as a constant. The gradient is the same, the Hessian is not.

    Returns:
        A context manager.
    """
    import tensorflow as tf

    def moments(x, axes, shift=None, keepdims=False, name=None):
        mean = tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(x - mean), axes, keepdims)
        return (mean if keepdims else tf.reduce_mean(x, axes)), variance

    modules = (tf.nn, tf.compat.v2.nn)  # Keras 3 calls the first, tf_keras the second
    return keras_internals.replaced([(module, "moments", moments) for module in modules])
