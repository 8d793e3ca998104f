"""GSM: global sparse momentum SGD."""

from tfsparse.methods.gsm.callback import PruneGSM
from tfsparse.methods.gsm.optimizer import GSM

__all__ = ["GSM", "PruneGSM"]
