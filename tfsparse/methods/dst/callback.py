"""DST with a target."""

import keras

from tfsparse.methods.dst.target_callback import TargetSparsityCallback


class DST(TargetSparsityCallback, keras.callbacks.Callback):
    """Bring a model with trainable thresholds to a sparsity: `model.fit(..., callbacks=[DST(sparsity=0.95)])`.

        some 400 times in a fit:   wanted = start + (sparsity - start) * schedule(t)
                                   alpha = Control.next(wanted - actual)
        after the last step:       kernel = kernel * (|kernel| - threshold is among the largest of all kernels)

    DST has no target: the penalty's weight alpha makes a network more or less sparse, and nobody knows how much. Here
    alpha is steered, below 0 where there are too many zeros, so that the sparsity follows a schedule; what is left to
    the target is cut exactly, before the last epoch's validation and checkpoints. Every epoch's logs have `sparsity`
    and `alpha`; those of the last `uncut_sparsity`, and with `data` every metric twice: `uncut_accuracy`,
    `cut_accuracy`.
    Thresholds of a layer are reset where it keeps no more than a tenth of the share asked, if that is below its floor.
    With `steps_per_execution` alpha can be set only between calls of the compiled step.

    What it knows is in variables of the layers: a resumed fit goes on as if it had never stopped.

    Args:
        sparsity: zeros over entries of all thresholded kernels together, in [0, 1). None: alpha stays what the layers
            have, the paper's way, nothing is cut, and the callback only writes the logs.
        schedule: the way to the target, see `tfsparse.schedules`; None: `Polynomial(start=0.0, end=0.75)`.
        updates: how often alpha is set in a fit, at most.
        data: what the cut is measured on, `(x, y)` or a dataset; None: it is not measured.

    Raises: ValueError before the first step for a model without thresholds and for a dataset of unknown length.

    >>> model = tfsparse.dst(model); model.compile("sgd", loss="mse")
    >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.DST(sparsity=0.95)])
    """
