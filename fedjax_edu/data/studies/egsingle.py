"""Growth in primary mathematics: the next score, and who is ever retained."""

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Task
from fedjax_edu.data.studies.examples import Examples, earlier, interleaved, raw, school_of_rows

CATEGORIES = ("female", "black", "hispanic")
TASKS = (
    Task("egsingle.math", "regression", "Growth mathematics", "item-response scale", "egsingle"),
    Task("egsingle.retained", "binary", "Growth retained", "probability", "egsingle"),
)


def egsingle_examples(population: Population, levels: dict[str, tuple[str, ...]]) -> Examples:
    """Examples of two kinds: one for each observation with a score before it, and one for each pupil.

    A *score* example predicts mathematics from the two scores before, never from its own. A *retained* example stands at the pupil's
    first observation, sees its score, neither grade nor mobility, and predicts whether the pupil is ever retained.
    """
    columns = raw(population)
    pupil = columns["childid"].astype(np.int64)
    history = {f"math_{lag}_before": earlier(columns["math"], pupil, lag) for lag in (1, 2)}
    first = np.append(True, pupil[1:] != pupil[:-1])
    ever = np.maximum.reduceat(columns["retained"], np.flatnonzero(first))[np.cumsum(first) - 1]
    row, retained = interleaved(np.flatnonzero(np.isfinite(history["math_1_before"])), np.flatnonzero(first))
    once, later = (np.where(shown, 0.0, np.nan) for shown in (retained, ~retained))  # NaN hides what an example may not see
    return Examples(
        study="egsingle",
        school=school_of_rows(population)[row],
        pupil=pupil[row],
        numbers={
            **{name: columns[name][row] for name in ("size", "lowinc")},
            **{name: columns[name][row] + later for name in ("mobility", "grade")},
            **{name: values[row] + later for name, values in history.items()},
            "math_first": columns["math"][row] + once,
        },
        categories={name: columns[name].astype(np.int64)[row] for name in CATEGORIES},
        levels={
            **levels,
            "female": ("Male", "Female"),
            "black": ("no", "yes"),
            "hispanic": ("no", "yes"),
        },  # mlmRev exchanges the sexes' labels
        targets={"math": columns["math"][row] + later, "retained": (ever[row] > 0) + once},
        tasks=TASKS,
        groups={"sex": "female", "ethnicity": "black"},
        classroom=np.zeros(len(row), np.int64),
        series={"math_first": ("math", 0), "math_1_before": ("math", 1), "math_2_before": ("math", 2)},
    )
