"""What a training by activation density remembers, in memory or in a directory that is never half-written.

    run.json         settings, an entry per epoch, the resizes, and where the training stood at every model it wrote
    model.keras      the model after the last whole epoch, or just after a resize
    stage-0.keras    the model at the end of the first stage, and so on
    examples.npz     what densities are measured on, unless it is the first rows of arrays

As in `runs`, run.json knows a model before it is there, so that it always says where the one that is there stood.
"""

import copy
import json
import pathlib
import shutil

import numpy as np
from keras import tree

from tfsparse.backend import files, run_directory

_BEGIN = {"epochs": 0, "size": 0, "since": 0, "stopped": None, "rolled_back": False, "halted": False, "seconds": 0.0}


class Record:
    """The state of a training, all of it numbers and words.

    Args:
        directory: where it is kept, or None.
        settings: what a directory's training must have in common with this one.
        groups: the names of all groups of channels.

    Raises: `run_directory.RunError` for a directory that holds something else.

    epochs: an entry per epoch, as in `runs`. resizes: which channels each kept.
    position: epochs: how many entries; size: how many resizes the model went through; since: entries at its last
        resize; stopped: why nothing is resized any more; halted: a callback has stopped training; seconds.
    """

    def __init__(self, directory, settings: dict, groups: list[str]):
        self.directory = None if directory is None else pathlib.Path(directory)
        run = (self.directory and self._found(settings)) or {
            "status": "running",
            "config": settings,
            "groups": groups,  # their names, which Keras may choose anew in the same process
            "epochs": [],
            "resizes": [],
            "checkpoints": [],  # of model.keras, as in `runs`, with a position for each
            "positions": [],
        }
        self._run = _renamed(run, groups)
        self.position = copy.deepcopy(self._run["positions"][-1] if self.is_resumed else _BEGIN)

    @property
    def epochs(self) -> list[dict]:
        """The entries."""
        return self._run["epochs"]

    @property
    def resizes(self) -> list[dict]:
        """The resizes that led to the model as it is."""
        return self._run["resizes"]

    @property
    def is_resumed(self) -> bool:
        """Is there a model to go on with?"""
        return bool(self._run["checkpoints"])

    @property
    def is_finished(self) -> bool:
        """Is there nothing left to do?"""
        return self._run["status"] == "finished"

    def resized(self, entry: dict) -> None:
        """The model has been resized, which is to be written; what it was is kept."""
        self.resizes.append(entry | {"random_states": self._keep_stage() if self.directory else None})
        self.position |= {"size": len(self.resizes), "since": len(self.epochs)}

    def rolled_back(self, reason: str) -> None:
        """The model is that of the stage before again, for good."""
        self.resizes.pop()
        self.position |= {"size": len(self.resizes), "since": len(self.epochs), "stopped": reason, "rolled_back": True}

    def write(self, model, finished: bool = False) -> None:
        """Keep the model and where the training stands."""
        self.position["epochs"] = len(self.epochs)
        if self.directory is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self._run["positions"].append(copy.deepcopy(self.position))
        run_directory.write_model(self.directory, self._run, model)
        if finished:
            self._run["status"] = "finished"
            run_directory.write_run(self.directory, self._run)

    def load(self, model, stage: int | None = None) -> None:
        """Give a model of the right shapes the values that were written: the last, or those at the end of a stage."""
        path = self.directory / ("model.keras" if stage is None else f"stage-{stage}.keras")
        model.load_weights(path)
        states = self._run["checkpoints"][-1] if stage is None else self.resizes[stage]
        run_directory.set_random_states(model, states["random_states"])

    def kept(self, make) -> tuple:
        """What `make()` gives, a nest of arrays and a batch size; what it gave when the training began, on a resume."""
        if self.directory is None:
            return make()
        path = self.directory / "examples.npz"
        examples, batch_size = make()
        if self.is_resumed and path.is_file():
            with np.load(path) as kept:
                return tree.pack_sequence_as(examples, [kept[name] for name in sorted(kept.files)]), batch_size
        self.directory.mkdir(parents=True, exist_ok=True)
        arrays = {f"{i:04}": array for i, array in enumerate(tree.flatten(examples))}
        files.write(path, lambda new: _save(new, arrays))
        return examples, batch_size

    def _keep_stage(self):
        stage = len(self.resizes)
        files.write(
            self.directory / f"stage-{stage}.keras", lambda new: shutil.copyfile(self.directory / "model.keras", new)
        )
        return self._run["checkpoints"][-1]["random_states"]

    def _found(self, settings):
        """The record in the directory, cut to what its model.keras has; None if there is none."""
        if not (self.directory / "run.json").is_file():
            strange = sorted(p.name for p in self.directory.glob("[!.]*") if p.name != "examples.npz")
            if strange:
                raise run_directory.RunError(
                    f"{self.directory} holds {strange[0]} and no training by activation density; pass another."
                )
            return None
        run = run_directory.read(self.directory)
        _check(self.directory, run, settings)
        if run["status"] == "finished":
            return run
        made = run_directory.num_checkpoints(self.directory, run)
        if not made:
            return None
        del run["checkpoints"][made:], run["positions"][made:]
        position = run["positions"][-1]
        del run["epochs"][position["epochs"] :], run["resizes"][position["size"] :]
        return run


def _check(directory, run, settings):
    if "positions" not in run:
        raise run_directory.RunError(f"{directory} holds a run of tfsparse train; pass another directory.")
    old, new = run["config"], json.loads(json.dumps(settings))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        lines = "\n".join(f"  {key}: {old.get(key)!r} -> {new.get(key)!r}" for key in changed)
        raise run_directory.RunError(
            f"{directory} holds a training with other settings, so it cannot go on with these. Take them back or pass "
            f"another directory:\n{lines}"
        )


def _renamed(run, groups):
    """The same with the names that the groups have now."""
    names = dict(zip(run["groups"], groups, strict=True))
    for entry in [*run["epochs"], *run["resizes"]]:
        for key in {"densities", "widths", "keep"} & entry.keys():
            entry[key] = {names[name]: value for name, value in entry[key].items()}
    return run | {"groups": groups}


def _save(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
