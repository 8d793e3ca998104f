"""Pruners: which weights are kept."""

from tfsparse.pruners.calibrated import CalibratedPruner
from tfsparse.pruners.drive import DRIVE
from tfsparse.pruners.drop_and_grow import DropAndGrow
from tfsparse.pruners.feather import Feather
from tfsparse.pruners.grasp import GraSP
from tfsparse.pruners.magnitude import Magnitude
from tfsparse.pruners.movement import Movement
from tfsparse.pruners.polarization import Polarization
from tfsparse.pruners.pruner import Pruner, ScorePruner, get, names, pruners
from tfsparse.pruners.random import Random
from tfsparse.pruners.rigl import RigL
from tfsparse.pruners.saliency import Saliency
from tfsparse.pruners.set import SET
from tfsparse.pruners.snip import SNIP
from tfsparse.pruners.synflow import Synflow
from tfsparse.pruners.taylor import Taylor
from tfsparse.pruners.wanda import Wanda

__all__ = [
    "DRIVE",
    "SET",
    "SNIP",
    "CalibratedPruner",
    "DropAndGrow",
    "Feather",
    "GraSP",
    "Magnitude",
    "Movement",
    "Polarization",
    "Pruner",
    "Random",
    "RigL",
    "Saliency",
    "ScorePruner",
    "Synflow",
    "Taylor",
    "Wanda",
    "get",
    "names",
    "pruners",
]
