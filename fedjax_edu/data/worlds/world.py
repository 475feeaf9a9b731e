r"""Institutions, students, what is known of them and what is to be predicted, all drawn from a model whose best predictions are known."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer, check_number, check_positive, check_share
from fedjax_edu.data.population import Population
from fedjax_edu.data.worlds.contents import MODALITIES
from fedjax_edu.data.worlds.posterior import GRID, Seen, expectation, posterior

KEPT = 0.9  # correlation of an ability with what it was a year ago
STEEPNESS, SCORE_NOISE = 2.0, 0.5
GRADES = np.array([-1.2, -0.4, 0.4, 1.2])  # between five grades


class Goal(NamedTuple):
    """What is to be predicted.

    Args:
        kind: binary, regression or ordinal.
        angle: of the direction in which it looks at the two abilities, where tasks overlap in nothing; degrees.
    """

    kind: str
    angle: float


TASKS = {"passed": Goal("binary", 0.0), "score": Goal("regression", 30.0), "grade": Goal("ordinal", 60.0), "stays": Goal("binary", 90.0)}


@dataclasses.dataclass(frozen=True)
class World:
    """A synthetic population and the best that anybody could predict of it.

    Attributes:
        population: the institutions, the rows their students.
        bayes: for each task the best prediction of each row from what the row shows: the probability of a 1, or the mean; float [N].
        scores: what these predictions score over all labelled rows: AUC for a binary task, else R².
    """

    population: Population
    bayes: dict[str, np.ndarray]
    scores: dict[str, float]

    def __repr__(self) -> str:
        told = ", ".join(f"{task} {score:.3f}" for task, score in self.scores.items())
        return f"World(synthetic; {self.population.num_clients:,} institutions, {self.population.num_examples:,} students; best: {told})"

    def best(self, task: str, rows: np.ndarray) -> float:
        """What the best predictions of some rows (bool or int) score.

        Args:
            task: which.
            rows: of the population; those without a label do not count.
        """
        arrays = self.population.arrays
        chosen = np.arange(self.population.num_examples)[rows]
        chosen = chosen[arrays["labelled"][task][chosen]]
        return score(TASKS[task].kind, arrays["targets"][task][chosen], self.bayes[task][chosen])


def m3t_world(
    key: jax.Array,
    institutions: int = 512,
    students: int = 60,
    *,
    lacking: Sequence[int] = (0, 1, 2, 3),
    missing: float = 0.1,
    quality: float = 0.5,
    years: int = 2,
    size_skew: float = 0.8,
    school_effect: float = 0.2,
    labelled: float = 0.7,
    overlap: float = 0.0,
) -> World:
    r"""A synthetic world: two abilities of each student drive five modalities and four tasks, differently in every institution.

    .. math::
        \theta_{i} = u_{k(i)} + e_i, \qquad u_k \sim N(0, \tau^2 I), \quad e_i \sim N(0, (1 - \tau^2) I)

    Knowledge :math:`\theta_0` shows in answers to items (a two-parameter logistic model) and in handwritten digits, engagement
    :math:`\theta_1` in words and sound, both in records, which also hold :math:`u_k`. A task sees :math:`s = \cos\varphi\,\theta_0 +
    \sin\varphi\,\theta_1`. What is a years old shows :math:`\theta` as it was: :math:`0.9^a \theta` and news.

    Every number comes from draws by institution: more of them leave the first ones as they are.

    Args:
        key: source of everything.
        institutions: how many.
        students: of the median institution.
        lacking: each institution lacks as many modalities as one of these numbers, all equally likely.
        missing: share of students whose content of a modality is missing where their institution has it.
        quality: of the worst institution's measurements, in (0, 1]; the best have 1.
        years: age of the oldest content, 0 or more.
        size_skew: standard deviation of the logarithm of sizes.
        school_effect: :math:`\tau^2`, share of the variance between institutions, from 0 to below 1.
        labelled: chance that an institution has labels of a task; it has those of one at least.
        overlap: of tasks, 0 for directions over a quarter circle, 1 for one and the same.

    Returns:
        A :class:`World`; rows hold ``contents`` by modality, ``present``, ``targets`` and ``labelled`` by task; clients hold the modules
        ``encoders.<modality>`` and ``heads.<task>`` that they have a use for, and the attributes ``quality.<modality>``,
        ``age.<modality>`` (years) and ``effect``.

    Raises:
        ArgumentError: a number outside of its range.
        MissingDependencyError: scikit-learn, whose digits are the images, is missing.

    >>> world = m3t_world(jax.random.key(0), institutions=8, students=20)
    >>> sorted(world.population.arrays["contents"]), sorted(world.bayes)
    (['audio', 'image', 'sequence', 'tabular', 'text'], ['grade', 'passed', 'score', 'stays'])
    """
    knobs = _checked(lacking, missing, quality, years, size_skew, school_effect, labelled, overlap)
    count, median = check_integer("institutions", institutions), check_integer("students", students)
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    drawn = [_institution(np.random.default_rng([*seed, number]), median, knobs) for number in range(count)]
    sizes = np.array([len(one.abilities) for one in drawn])
    arrays = jax.tree.map(lambda *leaves: np.concatenate(leaves), *[one.rows for one in drawn])
    facts = jax.tree.map(lambda *leaves: np.stack(leaves), *[one.facts for one in drawn])
    bayes = _best(arrays, {name: np.repeat(fact, sizes, axis=0) for name, fact in facts.items()}, knobs)
    for content in arrays["contents"].values():
        content.pop("digits", None)  # which digit it is the pixels have to tell
    holds = {name: facts.pop(name) for name in list(facts) if name.startswith(("encoders", "heads"))}
    population = Population.from_arrays(arrays, [0, *np.cumsum(sizes)], attributes=facts).holding(holds)
    arrays = population.arrays
    scores = {
        task: score(goal.kind, arrays["targets"][task][arrays["labelled"][task]], bayes[task][arrays["labelled"][task]])
        for task, goal in TASKS.items()
    }
    return World(population, bayes, scores)


class _Knobs(NamedTuple):
    lacking: tuple[int, ...]
    missing: float
    quality: float
    years: int
    size_skew: float
    school_effect: float
    labelled: float
    overlap: float

    def direction(self, task: str) -> tuple[float, float]:
        angle = np.deg2rad(45 + (1 - self.overlap) * (TASKS[task].angle - 45))
        return float(np.cos(angle)), float(np.sin(angle))


class _Institution(NamedTuple):
    abilities: np.ndarray
    rows: dict[str, Any]
    facts: dict[str, Any]


def _checked(lacking: Sequence[int], missing: float, quality: float, years: int, size_skew: float, *shares: float) -> _Knobs:
    few = tuple(lacking)
    if not few or not all(isinstance(one, int | np.integer) and 0 <= one < len(MODALITIES) for one in few):
        raise ArgumentError("lacking", lacking, f"use numbers from 0 to {len(MODALITIES) - 1}, one at least")
    effect, labelled, overlap = shares
    return _Knobs(
        few,
        check_number("missing", missing, at_least=0, below=1),
        check_positive("quality", quality, at_most=1, remedy="use a number above 0, 1 at most"),
        check_integer("years", years, at_least=0),
        check_number("size_skew", size_skew, at_least=0),
        check_number("school_effect", effect, at_least=0, below=1),
        check_share("labelled", labelled),
        check_share("overlap", overlap),
    )


def _institution(random: np.random.Generator, median: int, knobs: _Knobs) -> _Institution:
    """One institution: its facts, its students' abilities, what is shown and what is to be predicted."""
    size = max(2, round(median * np.exp(knobs.size_skew * random.normal())))
    effect = random.normal(size=2) * knobs.school_effect**0.5
    abilities = effect + random.normal(size=(size, 2)) * (1 - knobs.school_effect) ** 0.5
    lacks = random.permutation(len(MODALITIES))[: random.choice(knobs.lacking)]
    facts: dict[str, Any] = {"effect": effect}
    contents, present = {}, {}
    for number, (name, modality) in enumerate(MODALITIES.items()):
        quality, age = random.uniform(knobs.quality, 1), random.integers(knobs.years + 1)
        kept = KEPT**age
        past = kept * abilities + (1 - kept**2) ** 0.5 * random.normal(size=abilities.shape)
        content = modality.draw(random, past, np.full(size, quality))
        if name == "tabular":
            content["values"] = np.concatenate([content["values"], np.tile(effect, (size, 1))], axis=1)
        present[name] = (random.random(size) >= knobs.missing) & (number not in lacks)
        contents[name] = {leaf: _where(present[name], values) for leaf, values in content.items()}
        facts |= {f"quality.{name}": np.float32(quality), f"age.{name}": np.float32(age), f"encoders.{name}": np.bool_(number not in lacks)}
    some = random.random(len(TASKS)) < knobs.labelled
    some[random.integers(len(TASKS))] = True
    targets = {task: _target(random, goal.kind, abilities @ knobs.direction(task)) for task, goal in TASKS.items()}
    facts |= {f"heads.{task}": has for task, has in zip(TASKS, some, strict=True)}
    labels = {task: np.full(size, has) for task, has in zip(TASKS, some, strict=True)}
    targets = {task: _where(labels[task], values) for task, values in targets.items()}
    return _Institution(abilities, {"contents": contents, "present": present, "targets": targets, "labelled": labels}, facts)


def _where(present: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Numbers of 32 bits, zeros where nothing is."""
    kept = np.where(present.reshape(-1, *(1,) * (values.ndim - 1)), values, 0)
    return kept.astype(np.int32 if np.issubdtype(kept.dtype, np.integer) else np.float32)


def _target(random: np.random.Generator, kind: str, seen: np.ndarray) -> np.ndarray:
    if kind == "regression":
        return seen + SCORE_NOISE * random.normal(size=seen.shape)
    draw = random.random(seen.shape)
    if kind == "binary":
        return (draw < _logistic(STEEPNESS * seen)).astype(np.float32)
    return (draw[:, None] < _logistic(STEEPNESS * (seen[:, None] - GRADES))).sum(axis=1).astype(np.float32)


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def _mean(kind: str, seen: np.ndarray) -> np.ndarray:
    """Mean of the target given what a task sees of the abilities."""
    if kind == "regression":
        return seen
    if kind == "binary":
        return _logistic(STEEPNESS * seen)
    return _logistic(STEEPNESS * (seen[..., None] - GRADES)).sum(axis=-1)


def _best(arrays: dict[str, Any], facts: dict[str, np.ndarray], knobs: _Knobs) -> dict[str, np.ndarray]:
    """The best prediction of each row, for each task."""
    known = arrays["present"]["tabular"]  # records hold the effect of the institution
    posteriors = []
    for ability in range(2):
        seen = [_seen(name, arrays, facts, ability) for name, modality in MODALITIES.items() if ability in modality.abilities]
        mean = np.where(known, facts["effect"][:, ability], 0)
        posteriors.append(posterior(mean, np.where(known, (1 - knobs.school_effect) ** 0.5, 1.0), seen))
    best = {}
    for task, goal in TASKS.items():
        first, second = knobs.direction(task)
        of = _mean(goal.kind, first * GRID[:, None] + second * GRID)
        best[task] = expectation(of, *posteriors).astype(np.float32)
    return best


def _seen(name: str, arrays: dict[str, Any], facts: dict[str, np.ndarray], ability: int) -> Seen:
    rows = np.flatnonzero(arrays["present"][name])
    content = {leaf: values[rows] for leaf, values in arrays["contents"][name].items()}
    if name == "tabular":
        content["values"] = content["values"][:, :-2]
    likelihood = MODALITIES[name].likelihood(content, facts[f"quality.{name}"][rows].astype(np.float64), GRID, ability)
    return Seen(rows, likelihood, KEPT ** facts[f"age.{name}"][rows].astype(np.float64))


def score(kind: str, targets: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
    """AUC for a binary task, else R².

    Args:
        kind: of the task.
        targets: [n].
        predicted: [n].
        weights: [n], how often each counts; None: once.
    """
    from sklearn.metrics import r2_score, roc_auc_score

    return float((roc_auc_score if kind == "binary" else r2_score)(targets, predicted, sample_weight=weights))
