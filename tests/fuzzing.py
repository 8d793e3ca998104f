"""Damaged copies of files: bytes are flipped, the end is cut off, a value is another. A seed gives the same damage."""

import copy
import pathlib
import random

from thoroughly import also

SEEDS = [*range(30), *also(range(30, 60))]


def damaged(content: bytes, seed: int) -> bytes:
    """The content with one to eight bytes changed; for every third seed, only its beginning."""
    numbers = random.Random(seed)
    if seed % 3 == 2:
        return content[: numbers.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(numbers.randint(1, 8)):
        changed[numbers.randrange(len(changed))] ^= numbers.randint(1, 255)
    return bytes(changed)


ODD_VALUES = [
    None,
    True,
    "",
    "x",
    "[red]\x1b[2J",
    -1,
    0,
    1e308,
    10**30,
    float("nan"),
    float("inf"),
    [],
    {},
    [1],
    {"a": 1},
]


def with_odd_value(values: dict, seed: int) -> dict:
    """The dict with one entry, of it or of a list or dict in it, left out or replaced by what does not belong there."""
    numbers, values = random.Random(seed), copy.deepcopy(values)
    outer, key = numbers.choice(list(_places(values)))
    if seed % 5 == 4:
        del outer[key]
    else:
        outer[key] = numbers.choice(ODD_VALUES)
    return values


def _places(values):
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _places(values[key])


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """What the files below a folder hold, to see that a command that was refused has left and changed nothing."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
