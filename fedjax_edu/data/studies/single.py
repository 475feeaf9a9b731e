"""Studies with one example for each pupil, whose inputs are columns of the table."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Task
from fedjax_edu.data.studies.examples import Examples, raw, school_of_rows


@dataclasses.dataclass(frozen=True)
class Single:
    """Which columns of a study are read.

    Attributes:
        inputs: columns, in order; numbers come before categories.
        targets: column by the name of the target.
        tasks: the targets.
        groups: the input that holds ``sex``, ``ethnicity`` or ``ses``.
    """

    inputs: tuple[str, ...]
    targets: Mapping[str, str]
    tasks: tuple[Task, ...]
    groups: Mapping[str, str]

    def __call__(self, population: Population, levels: dict[str, tuple[str, ...]]) -> Examples:
        """Every pupil as an example."""
        columns = raw(population)
        return Examples(
            study=self.tasks[0].study,
            school=school_of_rows(population),
            pupil=np.arange(population.num_examples),
            numbers={name: columns[name] for name in self.inputs if name not in levels},
            categories={name: columns[name].astype(np.int64) for name in self.inputs if name in levels},
            levels=levels,
            targets={target: columns[name] for target, name in self.targets.items()},
            tasks=self.tasks,
            groups=self.groups,
            classroom=np.zeros(population.num_examples, np.int64),
        )


HSB = Single(
    inputs=("minrty", "sx", "ses", "meanses", "sector"),
    targets={"mach": "mAch"},
    tasks=(Task("hsb.mach", "regression", "HSB82 mathematics", "test points", "hsb"),),
    groups={"sex": "sx", "ethnicity": "minrty", "ses": "ses"},
)
BDF = Single(
    inputs=(
        *("IQ_verb", "IQ_perf", "sex", "Minority", "repeatgr", "aritPRET", "langPRET", "ses", "denomina", "schoolSES"),
        "classsiz",
    ),
    targets={"lang": "langPOST", "arith": "aritPOST"},
    tasks=(
        Task("bdf.lang", "regression", "Dutch language", "test points", "bdf"),
        Task("bdf.arith", "regression", "Dutch arithmetic", "test points", "bdf"),
    ),
    groups={"sex": "sex", "ethnicity": "Minority", "ses": "ses"},
)
EXAM = Single(
    inputs=("schgend", "schavg", "vr", "intake", "standLRT", "sex", "type"),
    targets={"norm": "normexam"},
    tasks=(Task("exam.norm", "regression", "Inner London examination", "standardised score", "exam"),),
    groups={"sex": "sex"},
)
SCOTS = Single(
    inputs=("verbal", "social", "sex"),
    targets={"attain": "attain"},
    tasks=(Task("scots.attain", "regression", "Scottish attainment", "grade, 1 to 10", "scots"),),
    groups={"sex": "sex", "ses": "social"},
)
CHEM = Single(
    inputs=("gender", "age", "gcsescore"),
    targets={"score": "score"},
    tasks=(Task("chem.score", "regression", "A-level chemistry", "points, 0 to 10", "chem"),),
    groups={"sex": "gender"},
)
