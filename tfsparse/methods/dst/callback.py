"""The callback of DST for Keras 3."""

import keras

from tfsparse.methods.dst.target_callback import TargetSparsityCallback


class DST(TargetSparsityCallback, keras.callbacks.Callback):
    """Bring a model made by `tfsparse.dst` to a sparsity.

        some 400 times in a fit:   target = start + (sparsity - start) * schedule(t)
                                   alpha = PIDController(target - actual sparsity)
        after the last step:       kernel = kernel * (|kernel| - threshold is among the largest of all kernels)

    The paper's DST has no target: a larger weight alpha of the penalty makes a network sparser, and nobody knows by how
    much. This callback sets alpha during training so that the sparsity follows a schedule. Alpha is negative while
    there are too many zeros. What is left to the target is cut exactly, before the last epoch's validation and
    checkpoints.

    The logs of every epoch have `sparsity` and `alpha`. Those of the last have `uncut_sparsity` and, with `data`, every
    metric before and after the cut: `uncut_accuracy`, `cut_accuracy`.

    Where the target leaves few weights, thresholds are reset only if a layer keeps no more than a tenth of its target.
    With `steps_per_execution` alpha can be set only between calls of the compiled step. The state of the controller is
    in variables of the layers, so a resumed fit equals the straight fit.

    Args:
        sparsity: Zeros over entries of all thresholded kernels together, in [0, 1). Default: None: alpha stays as it
            is, as in the paper, nothing is cut, and the callback only writes the logs.
        schedule: The way to the target: a schedule of `tfsparse.schedules`, its name or its config. Default: None,
            `Polynomial(start=0.0, end=0.75)`.
        updates: How often alpha is set in a fit, at most. Default: 400.
        data: What the cut is measured on, `(x, y)` or a dataset. Default: None: it is not measured.

    Raises:
        ValueError: Before the first step, if the model has no thresholds or the dataset is of unknown length.

    Source:
        Liu et al., "Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked Layers"
        (ICLR 2020) for the layers. The controller and the cut are ours.

    Examples:
        >>> model = tfsparse.dst(model)
        >>> model.compile("sgd", loss="mse")
        >>> model.fit(x, y, epochs=20, callbacks=[tfsparse.DST(sparsity=0.95)])
    """
