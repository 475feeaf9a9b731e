"""Studies under one protocol, eight of pupils in schools and one of courses: rows that are kept, inputs that a model may see, targets."""

from collections.abc import Callable, Iterable

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data.population import Population
from fedjax_edu.data.studies.courses import courses_examples
from fedjax_edu.data.studies.egsingle import egsingle_examples
from fedjax_edu.data.studies.examples import ID_STRIDE, Examples, join
from fedjax_edu.data.studies.gcse import gcse_examples
from fedjax_edu.data.studies.single import BDF, CHEM, EXAM, HSB, SCOTS
from fedjax_edu.data.studies.star import star_examples

Load = Callable[[str], Population]
Levels = dict[str, tuple[str, ...]]
MAKERS: dict[str, tuple[str, Callable[[Population, Levels], Examples]]] = {  # study -> data set, and how examples are made of it
    "hsb": ("hsb82", HSB),
    "star": ("star", star_examples),
    "egsingle": ("egsingle", egsingle_examples),
    "bdf": ("bdf", BDF),
    "exam": ("exam", EXAM),
    "scots": ("scotssec", SCOTS),
    "chem": ("chem97", CHEM),
    "gcse": ("gcsemv", gcse_examples),
    "courses": ("ucla_f18", courses_examples),
}
STUDIES = tuple(MAKERS)
K12 = STUDIES[:8]  # those of pupils in schools


def join_studies(names: Iterable[str], load: Load, vocabulary: Callable[[str], Levels]) -> Population:
    """Studies as one population of schools.

    Args:
        names: which, of :data:`STUDIES`.
        load: a raw data set by name.
        vocabulary: its levels.

    Raises:
        ArgumentError: an unknown study, or none.
    """
    wanted = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else []
    if not wanted or (unknown := [name for name in wanted if name not in STUDIES]):
        raise ArgumentError("studies", unknown[0] if wanted else names, f"pass a list of any of {', '.join(STUDIES)}")
    made = [(MAKERS[name][1], MAKERS[name][0]) for name in dict.fromkeys(wanted)]
    return join([make(load(item), vocabulary(item)) for make, item in made], STUDIES)


def study_of(school: int) -> str:
    """The study to which a school's id belongs.

    >>> study_of(1_000_080)
    'star'
    """
    return STUDIES[school // ID_STRIDE]
