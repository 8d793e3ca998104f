"""How a config trains by a method: one file per method, with its section, its callback and its label.

A file is used if `tfsparse.methods` has a folder of the same name. `prune` needs none.
"""

from tfsparse import methods
from tfsparse.experiments.method import Method
from tfsparse.experiments.methods import prune

_FILES = methods.modules_in(__name__) | {"prune": prune}
METHODS: dict[str, Method] = {name: module.METHOD for name, module in _FILES.items()}
