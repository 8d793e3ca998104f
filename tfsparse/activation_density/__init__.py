"""Activation density: the network becomes physically smaller while it trains."""

from tfsparse.activation_density.driver import ActivationDensity

__all__ = ["ActivationDensity"]
