"""Filter pruning: layers lose filters of small L1 norm during training."""

from tfsparse.experiments.staged_method import StagedMethod, section
from tfsparse.methods.filter_pruning import FilterPruning
from tfsparse.structured.stages.rounds import RoundOptions

FilterPruningConfig = section(
    "FilterPruningConfig",
    RoundOptions,
    "The options of `tfsparse.FilterPruning`, which removes filters of small L1 norm during training.",
)


class _FilterPruning(StagedMethod):
    name = "filter_pruning"
    section_class = FilterPruningConfig
    description = "null, or a section such as {sparsity: 0.5}"
    driver_class = FilterPruning


METHOD = _FilterPruning()
