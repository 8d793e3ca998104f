"""Reads the files of TensorBoard, for tests of what is written to them."""

import pathlib


def scalars(folder: pathlib.Path) -> dict[tuple[str, int], float]:
    """Return `{(tag, epoch): value}` of the files in a folder."""
    import tensorflow as tf

    found = {}
    for file in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found
