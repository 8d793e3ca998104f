"""The core and the batteries once more on JAX, in a process of its own, because a process has one Keras backend."""

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
CORE = ["masks", "optimizers", "backend/test_ops.py"]
STRUCTURED = ["structured/test_constant_channels.py", "structured/test_optimizer_slots.py"]
BATTERY = "testing/test_battery.py"
REST = ["methods/dst", "methods/tost", "consistency", "methods/pll/test_curvature.py", "methods/free_tickets"]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="pip install 'tfsparse[jax]' to test on JAX")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(CORE, id="core"),
        pytest.param([*STRUCTURED, "-k", "sgd or folded or emptied or metrics"], id="structured"),
        *also(
            [
                ["pruners", "backend/test_replicas.py"],
                [BATTERY, "-m", "", "-k", "test_registered and rigl"],
                [BATTERY, *REST, "-m", "", "-k", "not test_battery or test_registered and not rigl"],
                ["testing/methods/test_dst.py", "-k", "test_vector"],
                ["methods/activation_density", "-k", "test_density or killed_between"],
                ["callbacks/test_level_search.py", "schedules/test_nested.py"],
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
