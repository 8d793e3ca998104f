"""Models as users have them: of keras.applications three whose layers are the least ordinary, pruned by one callback.

`benchmarks/applications.py` does this for every family and writes docs/compatibility.md.
"""

import keras
import numpy as np
import pytest

import tfsparse

SPARSITY = 0.8


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny"])
def test_prunes_to_exactly_what_was_asked(name):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, classes=10, input_shape=(32, 32, 3))
    paths = [v.path for v in model.variables]
    eager = name != "MobileNet"  # one of them in the graph: to trace all of them takes minutes
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy", run_eagerly=eager)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")

    prune = tfsparse.Prune("one_cycle", SPARSITY, tfsparse.Magnitude(scope="layer"))
    history = model.fit(images, np.array([3, 7]), epochs=2, verbose=0, callbacks=[prune])

    kernels = [v for v in model.trainable_variables if v.name.endswith("kernel")]
    assert [v.path for v in model.optimizer.pruned_variables] == [v.path for v in kernels]
    for kernel in kernels:
        assert np.sum(kernel.numpy() == 0) == round(SPARSITY * kernel.numpy().size), kernel.path
    assert history.history["sparsity"][-1] == pytest.approx(SPARSITY, abs=1e-3)
    assert np.isfinite(history.history["loss"]).all()
    assert [v.path for v in model.variables] == paths
