"""The prediction tasks of the school studies and how each is scored."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to predict.

    Attributes:
        name: ``study.target``.
        study: the data set it belongs to.
        metric: ``"R2"`` or ``"AUC"``.
        title: how tables and plots call it.
        unit: of the target.
    """

    name: str
    study: str
    metric: str
    title: str
    unit: str

    @property
    def binary(self) -> bool:
        """Whether the target is 0 or 1 and the model's output a log-odds."""
        return self.metric == "AUC"


TASKS = (
    Task("hsb.mach", "hsb", "R2", "HSB82 mathematics", "test points"),
    Task("star.math", "star", "R2", "STAR mathematics", "scaled points"),
    Task("star.read", "star", "R2", "STAR reading", "scaled points"),
    Task("star.leaves", "star", "AUC", "STAR leaving", "probability"),
)
NAMES = tuple(task.name for task in TASKS)
