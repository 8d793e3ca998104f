"""Keras backends on which the package works."""

import os
import subprocess
import sys


def test_another_keras_backend_is_refused_by_name():
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-W", "ignore", "-c", "import tfsparse"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: tfsparse works with the Keras backends tensorflow and jax, and Keras runs on numpy: set "
        "KERAS_BACKEND=tensorflow before Python starts."
    )
