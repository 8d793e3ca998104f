"""Where a model shall run, and what its zeros gain there."""

import abc
import dataclasses
import pathlib

from tfsparse.doctor.patterns import Pattern
from tfsparse.doctor.sources import KERAS, Kind, Source
from tfsparse.doctor.weights import Weight

YES, NO, HARDLY, UNKNOWN = "yes", "no", "hardly", "not measured"
CHANNELS = 'granularity="channel", then shrink'
NO_ZEROS = "no zeros"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the zeros of one weight gain.

    Args:
        smaller: Whether they make the file smaller: "yes", "no", "hardly" or "not measured" (unknown).
        faster: Whether they make the model faster: the same words.
        why: Reason why they do not. Default: "".
        instead: What to write to gain more; "" if there is nothing better. Default: "".
    """

    smaller: str
    faster: str
    why: str = ""
    instead: str = ""

    @property
    def gains(self) -> bool:
        """Whether the weight is worth pruning."""
        return (self.smaller, self.faster) != (NO, NO)


class Target(abc.ABC):
    """A runtime on a kind of machine.

    `doctor` and `plan` know a subclass once `targets.register` has registered it.

    Attributes:
        name: What a user writes for `target`, such as "tflite-cpu".
        title: The same in words.
        kinds: The kinds of paths that it can be used with. Default: Keras models.
    """

    name: str
    title: str
    kinds: tuple[Kind, ...] = (KERAS,)

    @abc.abstractmethod
    def verdict(self, weight: Weight, pattern: Pattern) -> Verdict:
        """Return what the zeros of a weight gain, given their pattern."""

    @abc.abstractmethod
    def granularities(self, sparsity: float) -> dict:
        """Return the granularities that gain most at a sparsity: `{"dense": ..., "conv": ...}`."""

    @abc.abstractmethod
    def forms(self, source: Source, folder: pathlib.Path) -> list:
        """Write the dense form and the sparse one to a folder.

        Args:
            source: The source that one of `kinds` read.
            folder: An empty folder, which is removed later.

        Returns:
            A list of one or two `measurement.Form`s.

        Raises:
            NotMeasurable: If nothing can be measured on this machine. The message says why.
        """
