"""Which weights live: one file per method, one line per method here."""

from tfsparse.pruners.magnitude import Magnitude
from tfsparse.pruners.pruner import Pruner, ScorePruner, get, names, pruners
from tfsparse.pruners.random import Random
from tfsparse.pruners.saliency import Saliency

__all__ = ["Magnitude", "Pruner", "Random", "Saliency", "ScorePruner", "get", "names", "pruners"]
