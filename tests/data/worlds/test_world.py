"""The synthetic world: what is drawn is as likely as it says, and nobody predicts better than its best predictions."""

import inspect

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

import fedjax_edu as fe
from fedjax_edu.data.worlds.contents import MODALITIES
from fedjax_edu.data.worlds.posterior import GRID, Seen, expectation, posterior

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def world() -> fe.data.World:
    return fe.data.m3t_world(KEY, institutions=300, students=50)


@pytest.mark.parametrize("quality", [1.0, 0.5])
@pytest.mark.parametrize("name", MODALITIES)
def test_content_is_as_likely_as_it_is_drawn(name, quality):
    """The mean likelihood ratio of any other ability is 1 over what is drawn, and abilities that differ are told apart."""
    modality, count, truth = MODALITIES[name], 40_000, np.array([0.4, -0.3])
    qualities = np.full(count, quality)
    drawn = modality.draw(np.random.default_rng(3), np.tile(truth, (count, 1)), qualities)
    for ability in modality.abilities:
        grid = truth[ability] + np.array([0.0, 0.3, -0.5])
        logarithms = modality.likelihood(drawn, qualities, grid, ability)
        ratios = np.exp(logarithms - logarithms[:, :1])[:, 1:]
        error = ratios.std(axis=0) / count**0.5
        assert np.all(error > 0)
        np.testing.assert_array_less(np.abs(ratios.mean(axis=0) - 1), 4 * error)


@pytest.mark.parametrize("kept", [1.0, 0.81])
def test_posterior_of_normal_content_is_normal(kept):
    """Prior N(m, s²), content y = κθ + sqrt(1 - κ²) ξ + noise: the conjugate answer."""
    mean, deviation, noise, seen = 0.3, 0.9, 0.7, np.array([0.5, -1.0])
    likelihood = -0.5 * ((seen[:, None] - GRID) / noise) ** 2
    found = posterior(np.full(2, mean), np.full(2, deviation), [Seen(np.arange(2), likelihood, np.full(2, kept))])
    spread = 1 - kept**2 + noise**2
    precision = 1 / deviation**2 + kept**2 / spread
    expected = (mean / deviation**2 + kept * seen / spread) / precision
    np.testing.assert_allclose(found @ GRID, expected, atol=2e-4)
    np.testing.assert_allclose(found @ GRID**2 - (found @ GRID) ** 2, 1 / precision, rtol=2e-3)


def test_expectation_is_that_of_independent_abilities():
    first, second = (np.random.default_rng(seed).dirichlet(np.ones(len(GRID)), size=5) for seed in range(2))
    of = np.add.outer(GRID**2, 3 * GRID)
    np.testing.assert_allclose(expectation(of, first, second), first @ GRID**2 + 3 * second @ GRID, rtol=1e-10)


@pytest.mark.parametrize("task", ["passed", "score", "grade", "stays"])
def test_best_predictions_are_calibrated(world, task):
    arrays = world.population.arrays
    rows = arrays["labelled"][task]
    targets, best = arrays["targets"][task][rows], world.bayes[task][rows]
    residual = targets - best
    for low, high in zip(*(lambda edges: (edges[:-1], edges[1:]))(np.quantile(best, np.linspace(0, 1, 9))), strict=True):
        inside = residual[(best >= low) & (best <= high)]
        assert abs(stats.ttest_1samp(inside, 0).statistic) < 4
    assert world.best(task, np.ones(len(rows), bool)) == pytest.approx(world.scores[task])


def test_of_who_shows_nothing_the_mean_of_everybody_is_known(world):
    nothing = ~np.any(list(world.population.arrays["present"].values()), axis=0)
    assert nothing.sum() > 20
    for task, mean in {"passed": 0.5, "score": 0.0, "grade": 2.0, "stays": 0.5}.items():
        np.testing.assert_allclose(world.bayes[task][nothing], mean, atol=1e-5)


def test_boosting_on_all_that_is_shown_stays_below(world):
    """Summaries of every modality, absent as NaN, with the qualities: half of the institutions teach, the other half test."""
    arrays = world.population.arrays
    contents, present = arrays["contents"], arrays["present"]
    items = contents["sequence"]["items"]
    summaries = {
        "tabular": contents["tabular"]["values"],
        "sequence": np.stack([contents["sequence"]["responses"].mean(axis=1), items.mean(axis=1)], axis=1),
        "text": np.stack([(contents["text"]["tokens"] == word).sum(axis=1) for word in range(50)], axis=1),
        "image": contents["image"]["pixels"].reshape(len(items), -1),
        "audio": contents["audio"]["values"].mean(axis=1),
    }
    inputs = np.concatenate([np.where(present[name][:, None], values, np.nan) for name, values in summaries.items()], axis=1)
    teaching = world.population.row_clients % 2 == 0
    for task in ("passed", "stays"):
        labelled, targets = arrays["labelled"][task], arrays["targets"][task]
        model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(inputs[labelled & teaching], targets[labelled & teaching])
        rows = labelled & ~teaching
        reached = roc_auc_score(targets[rows], model.predict_proba(inputs[rows])[:, 1])
        assert 0.6 < reached < world.best(task, rows)


def test_knobs_do_what_they_say():
    world = fe.data.m3t_world(KEY, 60, 30, lacking=(1, 3), missing=0.25, labelled=0.5, overlap=1.0, school_effect=0.5, size_skew=0.0)
    population = world.population
    held = np.stack([population.holds[f"encoders.{name}"] for name in MODALITIES], axis=1)
    assert set((held == 0).sum(axis=1)) == {1, 3}
    np.testing.assert_array_equal(population.sizes, 30)
    for position, name in enumerate(MODALITIES):
        there = population.arrays["present"][name]
        has = held[population.row_clients, position] > 0
        assert not there[~has].any()
        assert there[has].mean() == pytest.approx(0.75, abs=0.06)
        assert not any(np.any(leaf[~there]) for leaf in population.arrays["contents"][name].values())
    labels = np.stack([population.holds[f"heads.{task}"] for task in world.bayes], axis=1)
    assert labels.sum(axis=1).min() == 1
    np.testing.assert_allclose(world.bayes["passed"], world.bayes["stays"], atol=1e-6)  # one direction
    assert np.var(population.attributes["effect"]) == pytest.approx(0.5, abs=0.2)


def test_less_to_see_is_worth_less():
    full, half, old = (
        fe.data.m3t_world(KEY, 80, 40, **{"lacking": (0,), "missing": 0.0, "quality": 1.0, "years": 0} | change)
        for change in ({}, {"lacking": (3,)}, {"years": 9})
    )
    for task in full.scores:
        assert full.scores[task] > half.scores[task] + 0.02
        assert full.scores[task] > old.scores[task] + 0.02


def test_more_institutions_leave_the_first_as_they_are(world):
    few = fe.data.m3t_world(KEY, institutions=3, students=50)
    same = world.population.select([0, 1, 2])
    for one, two in zip(jax.tree.leaves(few.population.arrays), jax.tree.leaves(same.arrays), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(few.bayes["score"], world.bayes["score"][: few.population.num_examples], atol=1e-6)
    assert "synthetic" in repr(few)


def test_defaults_are_frozen():
    """Tables in docs/ are made with them."""
    knobs = {name: parameter.default for name, parameter in inspect.signature(fe.data.m3t_world).parameters.items() if name != "key"}
    assert knobs == {
        "institutions": 512,
        "students": 60,
        "lacking": (0, 1, 2, 3),
        "missing": 0.1,
        "quality": 0.5,
        "years": 2,
        "size_skew": 0.8,
        "school_effect": 0.2,
        "labelled": 0.7,
        "overlap": 0.0,
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lacking": (5,)}, "lacking: got \\(5,\\); use numbers from 0 to 4"),
        ({"lacking": ()}, "lacking"),
        ({"quality": 0.0}, "quality: got 0.0; use a number above 0"),
        ({"overlap": 1.5}, "overlap: got 1.5; use a number from 0 to 1"),
        ({"missing": 1.0}, "missing"),
        ({"years": -1}, "years"),
    ],
)
def test_knobs_out_of_range(change, told):
    with pytest.raises(fe.errors.ArgumentError, match=told):
        fe.data.m3t_world(KEY, institutions=2, **change)
