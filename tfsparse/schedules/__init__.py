"""Schedules: when masks are updated, and how sparse they are then."""

from tfsparse.schedules.acdc import ACDC
from tfsparse.schedules.auto import Auto
from tfsparse.schedules.constant import Constant
from tfsparse.schedules.cosine import Cosine
from tfsparse.schedules.dsd import DSD
from tfsparse.schedules.iterative import Iterative
from tfsparse.schedules.linear import Linear
from tfsparse.schedules.nested import Nested
from tfsparse.schedules.one_cycle import OneCycle
from tfsparse.schedules.one_shot import OneShot
from tfsparse.schedules.polynomial import Polynomial
from tfsparse.schedules.schedule import Schedule, get, names, schedules
from tfsparse.schedules.soft_bound import SoftBound

__all__ = [
    "ACDC",
    "DSD",
    "Auto",
    "Constant",
    "Cosine",
    "Iterative",
    "Linear",
    "Nested",
    "OneCycle",
    "OneShot",
    "Polynomial",
    "Schedule",
    "SoftBound",
    "get",
    "names",
    "schedules",
]
