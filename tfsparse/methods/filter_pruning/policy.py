"""Which filters go: those of the smallest L1 norm in each layer."""

import numpy as np

from tfsparse.structured.stages.rounds import RoundsPolicy


class FilterPolicy(RoundsPolicy):
    """Removes from every layer the same fraction of its channels: those of the smallest L1 norm.

    Args:
        options: `RoundOptions`.
    """

    method = "filter_pruning"

    def kept_channels(self, probe, entries, position):
        keep, first = {}, entries[0]["widths"]
        for group in probe.groups:
            width = first[group.name] - self.num_removed(first[group.name], position)
            width = min(max(width, self.options.smallest), len(group))
            kept = probe.graph.keep({group.name: width}, score="l1")[group.channels]
            if width < len(group):
                keep[group.name] = np.flatnonzero(kept).tolist()
        return keep
