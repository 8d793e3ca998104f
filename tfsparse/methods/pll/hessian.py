"""Products of a Hessian with vectors, and what follows from them: its largest eigenvalue and its trace."""

import abc
import itertools
import math

import keras
import numpy as np
from keras import ops

from tfsparse.backend import ops as backend_ops
from tfsparse.backend.hashing import hash_signs


class Hessian(abc.ABC):
    """The Hessian `H` of a loss `L(w)`. A subclass defines the loss and the product `H v`, for one Keras.

        hvp(v)         = m * d/de grad L(w + e * m * v) at e = 0         m: the masks
        top_eigenvalue = repeat: h = hvp(v); eigenvalue = v . h; v = h / |h|
        trace          = mean of z . hvp(z) over random vectors z in {-1, 1}^n

    Dot products are computed in float32, and in float64 if a weight is float64, in every compute dtype.

    Args:
        variables: The variables `w`.

    Source:
        Yao, Gholami, Keutzer, Mahoney, "PyHessian: Neural Networks Through the Lens of the Hessian" (IEEE Big Data
        2020), algorithms 1 and 2. The trace is that of Hutchinson, "A stochastic estimator of the trace of the
        influence matrix for Laplacian smoothing splines" (1989).
    """

    def __init__(self, variables):
        self.variables = list(variables)
        self._dtype = "float64" if "float64" in self._dtypes() else "float32"
        self._product = backend_ops.traced_once(self._product)  # for the three functions that use it
        # loops over products stay in Python: on CPUs XLA's convolutions are ten times slower inside of a compiled loop
        compiled = backend_ops.compiled
        self._compiled_loss, self._compiled_product = compiled(self._loss_value), compiled(self._product)
        self._compiled_start, self._compiled_iteration = compiled(self._start), compiled(self._power_iteration)
        self._compiled_sample = compiled(self._trace_sample)

    @abc.abstractmethod
    def _state(self):
        """Return what `L` depends on, with its present values: nests of tensors."""

    @abc.abstractmethod
    def _loss_value(self, state):
        """Return `L`, a scalar."""

    @abc.abstractmethod
    def _hessian_product(self, state, vectors) -> list:
        """Return `H v`."""

    def loss(self) -> float:
        """Return the loss of the batch at the present weights, without regularisation."""
        return float(ops.convert_to_numpy(self._compiled_loss(self._state())))

    def hvp(self, vectors, masks=None) -> list:
        """Return `H v`. With masks, return the product of the submatrix of the living weights.

        Args:
            vectors: List of tensors or arrays with the shapes of `variables`.
            masks: List of masks with these shapes, 1 where a weight lives. Default: None, all weights live.

        Returns:
            A list of tensors in units of loss / weight² times the unit of `vectors`. They are 0 for pruned weights.

        Raises:
            ValueError: If the number or the shapes differ from those of the variables.
        """
        vectors = self._tensors(vectors, "vectors")
        return list(self._compiled_product(self._state(), vectors, self._masks(masks)))

    def top_eigenvalue(self, vectors=None, iterations: int = 5, masks=None) -> tuple[float, list]:
        """Return the eigenvalue of largest magnitude, which may be negative, and its eigenvector.

        Args:
            vectors: Initial vectors, such as those that an earlier call returned. Random signs are used instead if they
                are 0 for all living weights. Default: None, random signs.
            iterations: Number of Hessian-vector products, >= 1. A random start needs some 20, a start from a similar
                Hessian's eigenvector 3 to 5. Default: 5.
            masks: As in `hvp`: the submatrix of the living weights. Default: None.

        Returns:
            The Rayleigh quotient of the last product, and a unit vector over all variables as a list of tensors. If a
            product is 0 or not finite, the vector stays as it was, so that a later call can continue from it.

        Raises:
            ValueError: If `iterations` < 1, or the number or the shapes differ from those of the variables.
        """
        state, masks = self._state(), self._masks(masks)
        vectors = None if vectors is None else self._tensors(vectors, "vectors")
        vectors = self._compiled_start(vectors, masks)
        for _ in range(_at_least_1(iterations, "iterations")):
            value, vectors = self._compiled_iteration(state, vectors, masks)
        return float(ops.convert_to_numpy(value)), list(vectors)

    def trace(self, probes: int = 8, seed: int = 0, masks=None) -> float:
        """Return an unbiased estimate of the sum of all eigenvalues. It is exact if `H` is diagonal.

        Args:
            probes: Number of Hessian-vector products, >= 1. The standard error is
                `sqrt(2 * sum of H_ij² over i != j / probes)`. Default: 8.
            seed: Integer from which the random vectors are hashed. They are equal on all replicas, processes and
                backends. Default: 0.
            masks: As in `hvp`: the submatrix of the living weights. Default: None.

        Returns:
            The estimate, in units of loss / weight².

        Raises:
            ValueError: If `probes` < 1, or the number or the shapes differ from those of the variables.
        """
        state, masks, seed = self._state(), self._masks(masks), _uint32(seed)
        indices = [_uint32(i) for i in range(_at_least_1(probes, "probes"))]
        samples = [self._compiled_sample(state, masks, seed, index) for index in indices]
        return float(np.mean([ops.convert_to_numpy(sample) for sample in samples]))

    def _tensors(self, values, name):
        shapes, expected = [tuple(np.shape(v)) for v in values], [tuple(v.shape) for v in self.variables]
        if shapes != expected:
            raise ValueError(
                f"{name} of shapes {shapes}: expected one for each of the variables, of shapes {expected}, "
                f"for example {name}=[np.ones(v.shape) for v in curvature.variables]."
            )
        return [ops.cast(backend_ops.read(v), self._dtype) for v in values]

    def _masks(self, masks):
        return [None] * len(self.variables) if masks is None else self._tensors(masks, "masks")

    def _dtypes(self):
        return [keras.backend.standardize_dtype(v.dtype) for v in self.variables]

    def _product(self, state, vectors, masks):
        vectors = [ops.cast(v, dtype) for v, dtype in zip(_masked(vectors, masks), self._dtypes(), strict=True)]
        return _masked([ops.cast(p, self._dtype) for p in self._hessian_product(state, vectors)], masks)

    def _start(self, vectors, masks):
        signs = _masked(self._random_signs(0, 0), masks)
        signs = _normalized(signs, signs)
        return signs if vectors is None else _normalized(_masked(vectors, masks), signs)

    def _power_iteration(self, state, vectors, masks):
        product = self._product(state, vectors, masks)
        return _dot(vectors, product), _normalized(product, vectors)

    def _trace_sample(self, state, masks, seed, index):
        signs = _masked(self._random_signs(seed, index), masks)
        return _dot(signs, self._product(state, signs, masks))

    def _random_signs(self, seed, index):
        """Return a random vector of -1 and 1 over all variables, made from consecutive numbers."""
        firsts = itertools.accumulate((math.prod(v.shape) for v in self.variables), initial=0)
        return [
            hash_signs(tuple(variable.shape), seed, index, first=first, dtype=self._dtype)
            for variable, first in zip(self.variables, firsts, strict=False)
        ]


def _uint32(number):
    return ops.convert_to_tensor(np.uint32(number % 2**32))


def _masked(vectors, masks):
    return [v if m is None else backend_ops.masked(v, m) for v, m in zip(vectors, masks, strict=True)]


def _dot(first, second):
    return sum(ops.sum(a * b) for a, b in zip(first, second, strict=True))


def _normalized(vectors, default):
    """Return `vectors` over their common norm, or `default` if that is 0 or not finite."""
    norm = ops.sqrt(_dot(vectors, vectors))
    is_usable = ops.logical_and(ops.isfinite(norm), norm > 0)
    return [ops.where(is_usable, v / norm, d) for v, d in zip(vectors, default, strict=True)]


def _at_least_1(number, name):
    if number < 1:
        raise ValueError(f"{name}={number!r}: expected an integer >= 1, for example {name}=8.")
    return int(number)
