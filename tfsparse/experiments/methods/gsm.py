"""Global Sparse Momentum: an optimizer, and a cut after the last step."""

import inspect
from typing import ClassVar

from tfsparse.experiments.method import CallbackMethod
from tfsparse.experiments.sections import ConfigError
from tfsparse.methods.gsm import GSM, PruneGSM

_DEFAULT_COMPRESSION = inspect.signature(GSM).parameters["compression"].default


class _GSM(CallbackMethod):
    """The method is asked for by `optimizer: {name: gsm}` with a compression above 1."""

    name = "optimizer.compression"
    remove = "optimizer.compression=1"
    combines = True
    optimizers: ClassVar = {"gsm": GSM}

    def section(self, config):
        is_gsm = config.optimizer.name.lower() == "gsm" and _compression(config.optimizer) > 1
        return config.optimizer if is_gsm else None

    def label(self, section):
        return "gsm"  # its compression is the target sparsity

    def target_sparsity(self, section):
        return 1 - 1 / _compression(section)

    def callback(self, section, validation, first_batch):
        return PruneGSM(data=validation)


def _compression(optimizer):
    compression = optimizer.options.get("compression", _DEFAULT_COMPRESSION)
    if not isinstance(compression, int | float):
        raise ConfigError(f"optimizer.compression={compression!r}: expected entries over entries kept, such as 10.")
    return compression


METHOD = _GSM()
