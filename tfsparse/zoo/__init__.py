"""What the configs train: reference architectures, deterministic data, and the 1cycle policy."""

from tfsparse.zoo import data, models, one_cycle

__all__ = ["data", "models", "one_cycle"]
