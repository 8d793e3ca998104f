"""Feature relevance: the network loses channels of low relevance for the classes during training."""

from tfsparse.experiments.staged_method import StagedMethod, section
from tfsparse.methods.feature_relevance import FeatureRelevance
from tfsparse.methods.feature_relevance.policy import Options

FeatureRelevanceConfig = section(
    "FeatureRelevanceConfig",
    Options,
    "The options of `tfsparse.FeatureRelevance`, which removes channels of low relevance during training.",
)


class _FeatureRelevance(StagedMethod):
    name = "feature_relevance"
    section_class = FeatureRelevanceConfig
    description = "null, or a section such as {sparsity: 0.5}"
    driver_class = FeatureRelevance


METHOD = _FeatureRelevance()
