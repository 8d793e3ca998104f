"""Channels of small relevance for the classes are removed while the network trains."""

from tfsparse.methods.feature_relevance.driver import FeatureRelevance

__all__ = ["FeatureRelevance"]
