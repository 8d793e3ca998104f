import os
import subprocess
import sys

import pytest


def _run(code: str, **environment) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if k not in ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND")}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, timeout=300
    )


def test_the_package_alone_leaves_tf_keras_as_it_was():
    result = _run(
        "import sys, tfsparse, tensorflow as tf\n"
        "assert not {'tf_keras', 'tensorflow_model_optimization'} & set(sys.modules), 'imported'\n"
        "assert tf.keras.__version__.startswith('3.'), tf.keras.__version__\n"
        "tfsparse.tfmot.OneCycle(0.9, end_step=10)\n"
        "assert {'tf_keras', 'tensorflow_model_optimization'} <= set(sys.modules)\n"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("code", "environment", "message"),
    [
        ("import tfsparse.tfmot", {"KERAS_BACKEND": "jax"}, "set KERAS_BACKEND=tensorflow before Python starts"),
        (
            "import sys; sys.modules['tensorflow_model_optimization'] = None; import tfsparse.tfmot",
            {},
            "This needs tensorflow_model_optimization, which is not installed. Run: pip install 'tfsparse[tfmot]'",
        ),
    ],
)
def test_errors_say_what_to_do(code, environment, message):
    result = _run(code, **environment)
    assert result.returncode == 1
    assert message in result.stderr
