"""Where a model shall run, and what zeros are worth there."""

import abc
import dataclasses
import pathlib

from tfsparse.doctor.patterns import Pattern
from tfsparse.doctor.subject import KerasSubject, Subject
from tfsparse.doctor.weights import Weight

YES, NO, HARDLY, UNKNOWN = "yes", "no", "hardly", "not measured"
CHANNELS = 'granularity="channel", then shrink'
NO_ZEROS = "no zeros"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Of one weight. smaller, faster: "yes", "no", "hardly" or "not measured" (nor known); `why` not; and what to write
    `instead`, "" where there is nothing better."""

    smaller: str
    faster: str
    why: str = ""
    instead: str = ""

    @property
    def gains(self) -> bool:
        """Is it worth its zeros?"""
        return (self.smaller, self.faster) != (NO, NO)


class Target(abc.ABC):
    """A runtime on a kind of machine.

    Attributes:
        name: as it is written, for example "tflite-cpu".
        title: the same in words.
        takes: the kinds of `Subject` that it can be asked about.
    """

    name: str
    title: str
    takes: tuple[type[Subject], ...] = (KerasSubject,)

    @abc.abstractmethod
    def verdict(self, weight: Weight, pattern: Pattern) -> Verdict:
        """What the zeros of a weight gain."""

    @abc.abstractmethod
    def granularities(self, sparsity: float) -> dict:
        """What to train for it: `{"dense": ..., "conv": ...}`."""

    @abc.abstractmethod
    def forms(self, subject, folder: pathlib.Path) -> list:
        """The dense form of a `Subject` and the sparse one, as `measuring.Form`s, written to a folder; one where there
        is only one. Raises: `measuring.Unmeasured` with the reason."""
