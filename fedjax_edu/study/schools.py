"""The school protocol: which schools and pupils train, which test, and the populations that models see."""

import dataclasses

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError, ConfigError, DataError
from fedjax_edu.data import Population, Standardiser, Task, load_studies
from fedjax_edu.data.standardiser import schema_of
from fedjax_edu.data.studies import STUDIES
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.encoding import Encoding, raw_targets
from fedjax_edu.study.tables import counted

FOLDS = 5
WITHIN = 0.2  # share of each training school's pupils that is held out for the within-school test


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """One side of a split.

    Attributes:
        population: what models see: leaves ``inputs``, ``classroom``, ``targets`` and ``present``.
        rows: numbers of its rows among all examples, in the population's order.
    """

    population: Population
    rows: np.ndarray

    @property
    def school(self) -> np.ndarray:
        """Id of the school of each row, int64 [rows]."""
        return self.population.ids[self.population.row_clients].astype(np.int64)


@dataclasses.dataclass(frozen=True)
class SchoolData:
    """Everything a run needs, split and encoded.

    Attributes:
        population: all examples, in raw units.
        encoding: scales, fitted on the training side.
        train: 80 % of the pupils of each training school.
        within: the other pupils of the training schools.
        held_out: all pupils of the held-out schools.
        targets: raw targets of all examples, float64 [rows, tasks].
        classrooms: classrooms of the largest school.
        fold: that is held out.
        seed: of the draw of pupils.
    """

    population: Population
    encoding: Encoding
    train: Side
    within: Side
    held_out: Side
    targets: np.ndarray
    classrooms: int
    fold: int
    seed: int

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is to be predicted, in the order of all arrays [..., tasks]."""
        return self.encoding.schema.tasks

    @property
    def students(self) -> np.ndarray:
        """Who each example is about, [rows]."""
        return students_of(self.population)

    @property
    def sides(self) -> dict[str, Side]:
        """The two tests by name."""
        return {"held_out": self.held_out, "within": self.within}


def population_of(config: SchoolsConfig) -> Population:
    """The studies that a configuration names, as one population of schools.

    Raises:
        ConfigError: none, or an unknown one.
    """
    if not config.studies or set(config.studies) - set(STUDIES):
        raise ConfigError("config.studies", config.studies, f"name any of {', '.join(STUDIES)}; or pass a table with --csv")
    return load_studies(config.studies)


def prepare(population: Population, fold: int, seed: int, *, validation: bool = False) -> SchoolData:
    """Splits by school and by pupil, fits the scales and encodes.

    Held-out schools are fold `fold` of ``GroupKFold(5)`` over the schools of each study; a study of fewer than five schools has as many
    folds as schools. Of the pupils of every other school a fifth is held out whole. Rows of a pupil who is at a held-out school too are
    not trained on.

    Args:
        population: made from tables, with the scales of the tables.
        fold: 1 to 5.
        seed: of the draw of pupils.
        validation: split the training side of that fold once more in the same way and leave its test rows out: for tuning.

    Raises:
        ArgumentError: a population without a schema, or of a single school; inputs that are all texts; a fold that there is not.
        DataError: a task without rows to train or to test on.
    """
    train, within, held_out = split(population, fold, seed, validation=validation)
    encoding = Encoding(schema_of(population), Standardiser.fit(_rows(population, train)))
    arrays = _arrays(population, encoding)
    return SchoolData(
        population=population,
        encoding=encoding,
        train=_side(train, arrays),
        within=_side(within, arrays),
        held_out=_side(held_out, arrays),
        targets=raw_targets(population),
        classrooms=int(arrays["classroom"].max()) + 1,
        fold=fold,
        seed=seed,
    )


def split(population: Population, fold: int, seed: int, *, validation: bool = False) -> tuple[Population, Population, Population]:
    """The rows of training pupils, of their schools' other pupils, and of whole other schools; arguments and errors of :func:`prepare`."""
    if all(feature.kind == "text" for feature in schema_of(population).features):
        raise ArgumentError("population", "texts alone as inputs", "add a number or a category: baselines read no texts")
    train, within, held_out = _split(_index(population), fold, seed)
    if validation:
        train, within, held_out = _split(train, fold=1, seed=seed + 1)
    _check_targets(population, fold, train, within, held_out)
    return train, within, held_out


def students_of(population: Population) -> np.ndarray:
    """Who each row is about; where nobody says so, every row is somebody else."""
    return population.arrays.get("unit", np.arange(population.num_examples))


def groups_of(population: Population, task: Task) -> dict[str, np.ndarray]:
    """The groups of students that fairness is reported for, [rows] each: levels as words, a number that stands for a level likewise; the
    numbers of ``ses``, NaN where missing.
    """
    schema, arrays, found = schema_of(population), population.arrays, {}
    features = {feature.name: feature for feature in schema.features if feature.study == task.study}
    for group, names in schema.groups.items():
        for feature in (features[name] for name in names if name in features):
            if feature.kind == "number":
                values = np.where(arrays["present"][feature.name], arrays["numbers"][feature.name], np.nan)
                found[group] = values if group == "ses" else np.array(["" if np.isnan(value) else f"{value:g}" for value in values])
            else:
                found[group] = np.array([*feature.levels, ""])[arrays["categories"][feature.name]]  # -1 is missing
    return found


def _index(population: Population) -> Population:
    """All examples as row numbers."""
    arrays = {"row": np.arange(population.num_examples), "pupil": students_of(population)}
    study = population.attributes.get("study", np.zeros(population.num_clients, np.int32))
    return Population.from_arrays(arrays, population.offsets, ids=population.ids, attributes={"study": study})


def _rows(population: Population, index: Population) -> Population:
    """The rows of a population that an index holds."""
    arrays = jax.tree.map(lambda leaf: leaf[index.arrays["row"]], population.arrays)
    return Population.from_arrays(arrays, index.offsets, ids=index.ids, schema=population.schema)


def _split(index: Population, fold: int, seed: int) -> tuple[Population, Population, Population]:
    """Training pupils, their schools' other pupils, and whole other schools."""
    from sklearn.model_selection import GroupKFold

    tested = np.zeros(index.num_clients, bool)
    for study in np.unique(index.attributes["study"]):
        clients = np.flatnonzero((index.attributes["study"] == study) & (index.sizes > 0))
        folds = min(FOLDS, len(clients))
        if folds < 2:
            raise ArgumentError("population", f"{len(clients)} client", "split rows among two clients or more: whole clients are held out")
        if isinstance(fold, bool) or fold not in range(1, folds + 1):
            raise ArgumentError("fold", fold, f"use 1 .. {folds}")
        owner = np.repeat(clients, index.sizes[clients])
        _, rows = list(GroupKFold(folds).split(owner, groups=owner))[fold - 1]
        tested[owner[rows]] = True
    train, within = index.select(~tested).split_examples((1 - WITHIN, WITHIN), seed=seed, unit="pupil")
    held_out = index.select(tested)
    known = np.isin(train.arrays["pupil"], held_out.arrays["pupil"])  # who moved between schools
    return train.select_examples(~known), within, held_out


def _check_targets(population: Population, fold: int, train: Population, within: Population, held_out: Population) -> None:
    """Before anything is trained: every task has rows on all sides, and something to learn."""
    sides = {
        "among training rows": (train, 2, "train on more clients that have it, or leave the task out"),
        "in the within-school test": (within, 1, "leave the task out, or pass clients of three rows or more: a fifth is held out"),
        "in the held-out clients": (held_out, 1, "use another fold, or leave the task out"),
    }
    for task, targets in zip(schema_of(population).tasks, raw_targets(population).T, strict=True):
        for where, (side, needed, remedy) in sides.items():
            of_side = targets[side.arrays["row"]]
            if (distinct := len(np.unique(of_side[np.isfinite(of_side)]))) < needed:
                raise DataError(f"tasks.{task.name}", f"{counted(distinct, 'distinct value')} {where} of fold {fold}", remedy)


def _arrays(population: Population, encoding: Encoding) -> dict[str, np.ndarray]:
    targets, present = encoding.encode_targets(population)
    classroom = population.arrays.get("classroom", np.zeros(population.num_examples, np.int32))
    return {"inputs": encoding.encode(population), "classroom": classroom, "targets": targets, "present": present}


def _side(index: Population, arrays: dict[str, np.ndarray]) -> Side:
    rows = index.arrays["row"]
    leaves = {name: values[rows] for name, values in arrays.items()}
    return Side(Population.from_arrays(leaves, index.offsets, ids=index.ids), rows)
