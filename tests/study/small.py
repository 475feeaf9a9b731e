"""Two small studies with the columns of the real ones, so that the protocol's code runs as it is."""

import numpy as np

from fedjax_edu.data.studies import STUDIES
from fedjax_edu.data.studies.examples import Examples
from fedjax_edu.data.studies.single import HSB
from fedjax_edu.data.studies.star import TASKS as STAR

TASKS = (*HSB.tasks, *STAR)
NAMES = tuple(task.name for task in TASKS)


def study(name: str, schools: int, seed: int) -> Examples:
    """`schools` schools of 20 to 40 rows: two scores and one yes-no target for star, one score for hsb."""
    rng = np.random.default_rng(seed)
    sizes = 2 * rng.integers(10, 21, schools)
    school = np.repeat(np.arange(schools), sizes)
    n = len(school)
    ability, level = rng.normal(size=n), rng.normal(size=schools)[school]
    score = 50 + 10 * (ability + 0.3 * level + 0.5 * rng.normal(size=n))
    numbers = {"before": 500 + 40 * ability, "age": np.where(rng.random(n) < 0.9, rng.normal(7, 1, n), np.nan)}
    categories = {"sex": rng.integers(0, 2, n), "class": rng.integers(-1, 3, n)}
    if name == "hsb":
        targets = {"mach": score}
    else:
        leaving = np.arange(n) % 2 == 1
        left = (ability + rng.normal(size=n) < -0.5).astype(float)
        targets = {
            "math": np.where(leaving, np.nan, score),
            "read": np.where(leaving, np.nan, score + rng.normal(size=n)),
            "leaves": np.where(leaving, left, np.nan),
        }
    return Examples(
        study=name,
        school=school,
        pupil=np.arange(n) // 2,
        numbers=numbers,
        categories=categories,
        levels={"sex": ("f", "m"), "class": ("a", "b", "c")},
        targets=targets,
        tasks=HSB.tasks if name == "hsb" else STAR,
        groups={"sex": "sex"},
        classroom=rng.integers(0, 4, n),
    )


def schools_of(studies: tuple[Examples, ...]) -> np.ndarray:
    """Id of the school of each row of the joined studies, whose own rows are sorted by school."""
    return np.concatenate([examples.school + 1_000_000 * STUDIES.index(examples.study) for examples in studies])
