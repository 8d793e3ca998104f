"""The core and the battery once more on JAX, in a process of its own: a process has one Keras backend."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import pytest

HERE = pathlib.Path(__file__).parent
FILES = ["test_masks.py", "pruners", "optimizers", "test_engine.py", "test_wrapping.py", "test_curvature.py"]
FILES += ["test_mask_store.py", "test_agreement.py", "test_distribute.py", "layers"]
STRUCTURE = ["test_constants.py", "test_recompiling.py"]


def run(arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiling takes longer here than what is compiled
    return subprocess.run(command, cwd=HERE.parent, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="pip install 'tfsparse[jax]' to test on JAX")
@pytest.mark.parametrize(
    "arguments",
    [
        [str(HERE / f) for f in FILES],
        [str(HERE / "test_testing.py"), "-k", "test_registered and (magnitude or rigl or feather)"],
        [str(HERE / "test_testing_thresholds.py"), "-k", "test_vector"],
        [*(str(HERE / "structure" / f) for f in STRUCTURE), "-k", "sgd or folded or emptied or metrics"],
        [str(HERE / "activation_density"), "-k", "test_density or killed_between"],
    ],
    ids=["core", "battery", "thresholds", "structure", "activation density"],
)
def test_on_jax(arguments):
    done = run(arguments, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
