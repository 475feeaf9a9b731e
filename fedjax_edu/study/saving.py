"""When a run saves its state, and which checkpoints it keeps."""

import dataclasses

from fedjax_edu.core.errors import check_integer, check_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
    """When a run saves its state, and what it keeps.

    Args:
        rounds: between two checkpoints.
        seconds: after which it saves although fewer rounds have passed, when it next reports.
        last: how many of the newest checkpoints are kept.
        best: how many of those with the least training loss are kept beside them.

    Raises:
        ArgumentError: a number that is not positive; `best` may be 0.
    """

    rounds: int = 10
    seconds: float = 600.0
    last: int = 2
    best: int = 1

    def __post_init__(self) -> None:
        check_integer("saving.rounds", self.rounds)
        check_positive("saving.seconds", self.seconds)
        check_integer("saving.last", self.last)
        check_integer("saving.best", self.best, at_least=0)
