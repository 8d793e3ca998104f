"""Activation density: the network becomes physically smaller while it trains."""

from tfsparse.methods.activation_density.driver import ActivationDensity

__all__ = ["ActivationDensity"]
