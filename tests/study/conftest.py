"""Two small studies with the columns of the real ones, so that the protocol's code runs as it is."""

import jax
import numpy as np
import pytest

from experiments.configs.schools import get_config
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.examples import Examples


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Studies compile large programs and run them for a second."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def study(name: str, schools: int, seed: int) -> Examples:
    """`schools` schools of 20 to 40 rows: two scores and one yes-no target for star, one score for hsb."""
    rng = np.random.default_rng(seed)
    sizes = 2 * rng.integers(10, 21, schools)
    school = np.repeat(np.arange(schools) + (1_000_000 if name == "star" else 0), sizes)
    n = len(school)
    ability, level = rng.normal(size=n), rng.normal(size=schools)[school % 1_000_000]
    score = 50 + 10 * (ability + 0.3 * level + 0.5 * rng.normal(size=n))
    numbers = {"before": 500 + 40 * ability, "age": np.where(rng.random(n) < 0.9, rng.normal(7, 1, n), np.nan)}
    categories = {"sex": rng.integers(0, 2, n), "class": rng.integers(-1, 3, n)}
    if name == "hsb":
        targets = {"hsb.mach": score}
    else:
        leaving = np.arange(n) % 2 == 1
        left = (ability + rng.normal(size=n) < -0.5).astype(float)
        targets = {
            "star.math": np.where(leaving, np.nan, score),
            "star.read": np.where(leaving, np.nan, score + rng.normal(size=n)),
            "star.leaves": np.where(leaving, left, np.nan),
        }
    return Examples(name, school, np.arange(n) // 2, numbers, categories, {"sex": 2, "class": 3}, rng.integers(0, 4, n), targets)


@pytest.fixture(scope="session")
def studies() -> tuple[Examples, Examples]:
    return study("hsb", schools=10, seed=0), study("star", schools=10, seed=1)


@pytest.fixture(scope="session")
def config():
    small = get_config()
    small.rounds, small.cohort, small.chunk, small.lanes = 3, 4, 2, 2
    small.model = {"width": 8, "depth": 1, "tokens": 4, "members": 2, "products": True}
    small.pooled.epochs = small.local_only.epochs = 2
    small.effects.steps = 5
    return SchoolsConfig.from_mapping(small.to_dict())
