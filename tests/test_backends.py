"""The core and the battery once more on JAX, in a process of its own: a process has one Keras backend."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import processes
import pytest
from thoroughly import also

HERE = pathlib.Path(__file__).parent
CORE = ["test_masks.py", "optimizers", "test_engine.py"]
REST = ["pruners", "test_wrapping.py", "test_distribute.py"]
MORE = ["layers", "test_agreement.py", "test_curvature.py", "test_mask_store.py", "test_testing.py"]
STRUCTURE = ["structure/test_constants.py", "structure/test_recompiling.py"]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="pip install 'tfsparse[jax]' to test on JAX")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(CORE, id="core"),
        pytest.param([*STRUCTURE, "-k", "sgd or folded or emptied or metrics"], id="structure"),
        *also(
            [
                REST,
                ["test_testing.py", "-m", "", "-k", "test_registered and rigl"],
                ["activation_density", "-k", "test_density or killed_between"],
                ["test_testing_thresholds.py", "-k", "test_vector"],
                [*MORE, "-m", "", "-k", "not test_testing or test_registered and not rigl"],
            ]
        ),
    ],
)
def test_on_jax(arguments, cache):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | processes.jax(cache.mkdir("jax"))
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
