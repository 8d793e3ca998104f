"""Damaged copies of files: bytes are flipped, or the end is cut off. The same seed gives the same damage."""

import pathlib
import random

from thoroughly import also

SEEDS = [*range(30), *also(range(30, 300))]


def damaged(content: bytes, seed: int) -> bytes:
    """The content with one to eight bytes changed; for every third seed, only its beginning."""
    numbers = random.Random(seed)
    if seed % 3 == 2:
        return content[: numbers.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(numbers.randint(1, 8)):
        changed[numbers.randrange(len(changed))] ^= numbers.randint(1, 255)
    return bytes(changed)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """What the files below a folder hold, to see that a command that was refused has left and changed nothing."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
