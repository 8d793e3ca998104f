"""Random Functional and Sequential models by seed: small, of all that shrinking must understand or refuse.

`random_model(seed)` has random biases and BatchNormalization statistics. With `plain=True` it is made of operations
that take zero channels to zero channels, so that every masked channel can go; else a masked channel may be a constant.
"""

import keras
import numpy as np
from keras import layers
from structured import random_functions, random_layers  # noqa: F401  both register their operations
from structured.dice import Dice, operations, pick, to_vector

SIDE = {1: (14,), 2: (10, 10)}


def random_model(seed: int, plain: bool = False) -> keras.Model:
    """A built model of 4 to 12 operations on images, sequences or vectors, ending in a small Dense or in features."""
    keras.utils.clear_session(free_memory=False)  # equal names for equal seeds
    keras.utils.set_random_seed(seed)
    dice = Dice(seed)
    rank = dice.one(2, 2, 2, 2, 2, 2, 1, 1, 0)
    model = _sequential(dice, rank, plain) if dice.chance(0.1) else _functional(dice, rank, plain)
    randomise(model, dice.generator)
    return model


def inputs_of(model: keras.Model, seed: int = 0, examples: int = 3) -> list[np.ndarray] | np.ndarray:
    """Random inputs that the model takes; without the list where it takes one."""
    random = np.random.default_rng(seed)
    inputs = [random.normal(size=(examples, *x.shape[1:])).astype("float32") for x in model.inputs]
    return inputs if len(inputs) > 1 else inputs[0]


def randomise(model: keras.Model, random: np.random.Generator) -> None:
    """Biases, scales and statistics that are nobody's defaults."""
    sample = {
        "bias": lambda shape: random.normal(0, 0.3, shape),
        "beta": lambda shape: random.normal(0, 0.5, shape),
        "gamma": lambda shape: random.uniform(0.5, 1.5, shape) * random.choice([-1, 1], shape),
        "moving_mean": lambda shape: random.normal(0, 0.3, shape),
        "moving_variance": lambda shape: random.uniform(0.3, 2, shape),
        "alpha": lambda shape: random.uniform(0.05, 0.5, shape),
    }
    for variable in model.variables:
        if variable.name in sample:
            variable.assign(sample[variable.name](variable.shape).astype("float32"))


def _functional(dice, rank, plain):
    shape = (*SIDE[rank], 3) if rank else (7,)
    inputs = [keras.Input(shape) for _ in range(dice.one(1, 1, 1, 2))]
    pool = list(inputs)
    for _ in range(dice.between(4, 12)):
        x = pool[-1] if dice.chance(0.7) else dice.one(*pool)
        result = dice.one(*operations(len(x.shape), plain))(dice, x, pool) if x.shape[-1] <= 24 else None
        if result is not None:  # None: it does not fit this tensor
            pool.append(result)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], _outputs(dice, pool, inputs))


def _outputs(dice, pool, inputs):
    """All that nobody has read, through heads; now and then one of them as it is, as a feature map."""
    read = {id(t) for end in pool for t in _read_by(end)}
    ends = [t for t in pool if id(t) not in read and all(t is not i for i in inputs)]
    ends += [i for i in inputs if id(i) not in read]
    if dice.chance(0.15) and len(ends) > 1:
        return [_head(dice, ends[:-1]), ends[-1]]
    return _head(dice, ends)


def _read_by(tensor):
    """Every tensor on the way to this one."""
    waiting, seen = [tensor], {}
    while waiting:
        operation, node, _ = waiting.pop()._keras_history
        new = [t for t in operation._inbound_nodes[node].input_tensors if id(t) not in seen]
        seen |= {id(t): t for t in new}
        waiting += new
    return seen.values()


def _head(dice, tensors):
    vectors = [t if len(t.shape) == 2 else to_vector(dice, t) for t in tensors]
    joined = vectors[0] if len(vectors) == 1 else layers.Concatenate()(vectors)
    if dice.chance(0.4):
        joined = layers.Dense(dice.between(2, 8), activation=dice.one("relu", "swish", None))(joined)
    return layers.Dense(3, activation=dice.one(None, "softmax"))(joined)


def _sequential(dice, rank, plain):
    """A chain of stock layers."""
    model = keras.Sequential([keras.Input((*SIDE[rank], 3) if rank else (7,))])
    for _ in range(dice.between(2, 6)):
        for layer in random_layers.conv_chain(dice, plain, rank):
            model.add(layer)
    if rank:
        model.add(dice.one(layers.Flatten(), pick(rank, "GlobalAveragePooling")(), layers.Reshape((-1,))))
    model.add(layers.Dense(3))
    return model


def describe(model: keras.Model, indent: str = "") -> str:
    """One line per operation, nested models indented: what to paste into a report of a bug."""
    lines = []
    for operation in getattr(model, "operations", model.layers):
        inner = f"\n{describe(operation, indent + '    ')}" if isinstance(operation, keras.Model) else ""
        outputs = [tuple(t.shape) for node in operation._inbound_nodes for t in node.output_tensors]
        lines.append(f"{indent}{type(operation).__name__} {operation.name} -> {outputs}{inner}")
    return "\n".join(lines)
