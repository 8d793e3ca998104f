import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # small models run a few steps: its kernels take longer to make
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import pytest

from tfsparse import testing

testing.split_cpu()


@pytest.fixture(autouse=True, scope="session")
def _keep_kernels():
    """Deterministic kernels cannot be switched off again, and other tests in this process do not want them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow.config.experimental.enable_op_determinism", lambda: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def _old_objects_are_not_searched_for_garbage():
    """Graphs of hundreds of tests stay alive; a collection that looks at all of them takes seconds, and Keras asks for
    one whenever a session is cleared."""
    yield
    gc.collect()
    gc.freeze()
