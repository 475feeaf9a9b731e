"""A small population with the columns of two real studies."""

import pytest

from experiments.configs.schools import get_config
from fedjax_edu.data import Population
from fedjax_edu.data.studies import STUDIES
from fedjax_edu.data.studies.examples import Examples, join
from fedjax_edu.study import schools
from fedjax_edu.study.config import SchoolsConfig
from tests.quick import quick_compilation
from tests.study.small import study

__all__ = ["quick_compilation"]  # in every module


@pytest.fixture(scope="session")
def studies() -> tuple[Examples, Examples]:
    return study("hsb", schools=10, seed=0), study("star", schools=10, seed=1)


@pytest.fixture(scope="session")
def population(studies) -> Population:
    return join(studies, STUDIES)


@pytest.fixture(scope="module")
def small(population):
    """The real studies replaced by the small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schools, "load_studies", lambda names: population)
        yield


@pytest.fixture(scope="session")
def config():
    small = get_config()
    small.rounds, small.cohort, small.chunk, small.lanes = 3, 4, 2, 2
    small.model = {"width": 8, "depth": 1, "tokens": 4, "members": 2, "products": True}
    small.pooled.epochs = small.local_only.epochs = 2
    return SchoolsConfig.from_mapping(small.to_dict())
