"""Robust rules against published numbers, NumPy, permutations, ties, absent clients, and updates that are as large as floats get."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_edu as fe
from fedjax_edu.aggregation import centered_clip, fltrust, geometric_median, krum, mean, median, multi_krum, trimmed_mean
from fedjax_edu.core.algorithm import Meta
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.stack import Stack
from tests.aggregation import cohort
from tests.reference import rules

SEVEN = np.array([(1, 2), (1.2, 1.9), (0.9, 2.1), (1.1, 2.05), (0.8, 1.7), (50, -50), (0, 0)], np.float32)
FIVE = np.array([(0, 0), (1, 0), (0, 1), (1, 1), (10, 10)], np.float32)
ROOT = 3
WHOLE = fe.modules.assign({"w": np.zeros(2)})


SEATS = 16


@functools.cache
def compiled(link, dim: int, x64: bool):
    """One program for any cohort of up to SEATS clients: (mean, aggregate, state) of a rule on one module."""
    modules = fe.modules.assign({"w": np.zeros(dim)})
    first = link.init_server(modules.split({"w": jnp.zeros(dim)}), Meta(np.ones(2, int), modules))

    @jax.jit
    def run(updates, weights, ids, centre, key):
        stack = Stack({"w": updates}, weights[:, None], ids, modules)
        _, found = link.stack({"w": centre} if link.name == "centered_clip" else first, {"update": stack}, key)
        return found["update"].mean()["w"], found["update"]

    return run


def answer(link, updates, weights=None, *, ids=None, centre=0.0, seed=0, there=None):
    """(mean, Aggregate) of a rule on one module whose clients sit on the seats `there` among absent ones."""
    updates = np.asarray(updates)
    count, dim = updates.shape
    there = np.arange(count) if there is None else there
    wide, rarely, everybody = np.full((SEATS, dim), 1e6, updates.dtype), np.zeros(SEATS), np.full(SEATS, 99, np.uint32)
    wide[there], rarely[there] = updates, 1 if weights is None else weights
    everybody[there] = np.arange(count) if ids is None else ids
    run = compiled(link, dim, bool(jax.config.jax_enable_x64))
    centre = jnp.full(dim, centre, updates.dtype) if np.ndim(centre) == 0 else jnp.asarray(centre, updates.dtype)
    mean, found = run(jnp.asarray(wide), jnp.asarray(rarely), jnp.asarray(everybody), centre, jax.random.key(seed))
    return np.asarray(mean), found


@pytest.mark.parametrize(
    ("link", "points", "expected"),
    [
        (krum(2), SEVEN, (1, 2)),
        (multi_krum(2, 5), SEVEN, (1, 1.95)),
        (median(), SEVEN, (1, 1.9)),
        (trimmed_mean(2 / 7), SEVEN, (1, 1.866667)),
        (geometric_median(iterations=200), SEVEN, (1.028685, 1.936938)),
        (median(), FIVE, (1, 1)),
        (trimmed_mean(0.2), FIVE, (2 / 3, 2 / 3)),
        (krum(1), FIVE, (0, 0)),  # four equal scores of 2
        (multi_krum(1, 2), FIVE, (0.5, 0)),
        (mean(), FIVE, (2.4, 2.4)),
        (geometric_median(iterations=200), np.array([(0, 0), (1, 0), (0, 1)], np.float32), ((3 - np.sqrt(3)) / 6,) * 2),
        (fltrust(9), np.array([(1, 0), (2, 0), (0, 3), (-5, 0), (3, 4)], np.float32), (0.85, 0.30)),
    ],
)
def test_published_numbers(link, points, expected):
    ids = [9, 1, 2, 3, 4] if link.name == "fltrust" else None
    np.testing.assert_allclose(answer(link, points, ids=ids)[0], expected, rtol=2e-6, atol=1e-6)


def test_published_scores_of_krum():
    np.testing.assert_allclose(rules.krum_scores(SEVEN.astype(float), 2), [0.0825, 0.2125, 0.1925, 0.0875, 0.5, 15168.58, 13.58], rtol=1e-5)
    np.testing.assert_allclose(rules.krum_scores(FIVE.astype(float), 1), [2, 2, 2, 2, 343], rtol=1e-6)


def trusted(updates, weights):
    """FLTrust in NumPy, the root being the row after which nothing moves."""
    return rules.fltrust(updates, ROOT)


RULES = [
    (median(), rules.median),
    (trimmed_mean(0.0), rules.trimmed_mean(0.0)),
    (trimmed_mean(0.15), rules.trimmed_mean(0.15)),
    (trimmed_mean(0.4), rules.trimmed_mean(0.4)),
    (krum(0), rules.multi_krum(0, 1)),
    (krum(2), rules.multi_krum(2, 1)),
    (multi_krum(2, 4), rules.multi_krum(2, 4)),
    (multi_krum(3, 100), rules.multi_krum(3, 100)),
    (geometric_median(), rules.weiszfeld(8, 1e-6)),
    (geometric_median(3, 0.5), rules.weiszfeld(3, 0.5)),
    (centered_clip(1.5), lambda updates, weights: rules.centered_clip(updates, 0, 1.5)),
    (centered_clip(0.7, iterations=4), lambda updates, weights: rules.centered_clip(updates, 0, 0.7, 4)),
    (fltrust(ROOT), trusted),
]
NAMES = [f"{link.name}-{number}" for number, (link, _) in enumerate(RULES)]


def instance(seed: int, count: int, dim: int = 5):
    rng = np.random.default_rng(seed)
    updates = rng.normal(size=(count, dim)) + rng.normal(size=dim)
    updates[rng.random(count) < 0.2] *= 30
    return updates, rng.uniform(0.5, 3, count)


@pytest.mark.parametrize(("link", "twin"), RULES, ids=NAMES)
def test_equals_numpy_wherever_the_clients_sit(link, twin):
    with jax.enable_x64(True):
        for count in (4, 5, 7, 8, 12, SEATS):
            for seed in range(4):
                updates, weights = instance(seed, count)
                there = np.sort(np.random.default_rng(seed).choice(SEATS, count, replace=False))
                expected = twin(updates, weights)
                expected = np.zeros(5) if expected is None else expected
                found, aggregate = answer(link, updates, weights, there=there)
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
                if link.name != "fltrust":
                    np.testing.assert_allclose(aggregate.weight, [weights.sum()])
                    np.testing.assert_array_equal(aggregate.contributors, [count])


@pytest.mark.parametrize(("link", "twin"), RULES, ids=NAMES)
def test_jit_off_and_no_empty_seat_give_the_same(link, twin):
    updates, weights = instance(1, 9)
    modules = fe.modules.assign({"w": np.zeros(5)})
    stack = Stack(
        {"w": jnp.asarray(updates, jnp.float32)}, jnp.asarray(weights, jnp.float32)[:, None], jnp.arange(9, dtype=jnp.uint32), modules
    )
    state = link.init_server(modules.split({"w": jnp.zeros(5)}), Meta(np.ones(9, int), modules))
    with jax.disable_jit():
        _, found = link.stack(state, {"update": stack}, jax.random.key(0))
    np.testing.assert_allclose(found["update"].mean()["w"], answer(link, updates.astype(np.float32), weights)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("link", "twin"), RULES, ids=NAMES)
def test_order_of_clients_does_not_matter(link, twin):
    updates, weights = instance(7, 11)
    order = np.random.default_rng(0).permutation(11)
    expected, _ = answer(link, updates.astype(np.float32), weights)
    found, _ = answer(link, updates[order].astype(np.float32), weights[order], ids=order)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize(("link", "twin"), RULES, ids=NAMES)
def test_nobody_there_moves_nothing(link, twin):
    found, aggregate = answer(link, np.ones((4, 5), np.float32), np.zeros(4))
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(aggregate.weight, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(aggregate))


@pytest.mark.parametrize("weights", [np.ones(9), np.arange(1.0, 10)])
@pytest.mark.parametrize(("link", "twin"), [each for each in RULES if each[0].name not in ("geometric_median",)])
def test_weights_only_say_who_is_there(link, twin, weights):
    updates, _ = instance(3, 9)
    np.testing.assert_allclose(
        answer(link, updates.astype(np.float32), weights)[0], answer(link, updates.astype(np.float32))[0], rtol=1e-5, atol=1e-6
    )


def test_the_weighted_geometric_median_is_the_heaviest_of_three_points():
    points = np.array([(0, 0), (4, 0), (0, 3)], np.float32)
    found, _ = answer(geometric_median(iterations=50), points, [1, 5, 1])
    np.testing.assert_allclose(found, (4, 0), atol=1e-3)


@pytest.mark.parametrize(
    "link", [median(), trimmed_mean(0.25), krum(2), multi_krum(2, 3), geometric_median(), centered_clip(2.0), fltrust(0)]
)
def test_liars_with_the_largest_floats_neither_win_nor_stop_the_round(link):
    rng = np.random.default_rng(0)
    updates = (1 + 0.1 * rng.normal(size=(9, 4))).astype(np.float32)
    largest = np.finfo(np.float32).max
    updates[3], updates[6] = largest, -largest
    found, aggregate = answer(link, updates)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(aggregate))
    np.testing.assert_allclose(found, 1, atol=0.6)


@pytest.mark.parametrize("link", [krum(1), multi_krum(1, 3)])
def test_krum_of_close_updates_far_from_zero(link):
    """Squared distances from inner products would lose all their digits here."""
    rng = np.random.default_rng(1)
    updates = (1e4 + rng.integers(-40, 40, (8, 6)) / 64).astype(np.float32)
    expected = rules.multi_krum(1, 1 if link.name == "krum" else 3)(updates.astype(float), None)
    np.testing.assert_allclose(answer(link, updates)[0], expected, atol=2e-3)


def test_krum_takes_the_lowest_of_equals():
    twins = np.repeat(np.array([[1.0], [2.0], [3.0]], np.float32), 3, axis=0)
    np.testing.assert_array_equal(answer(krum(3), twins)[0], rules.multi_krum(3, 1)(twins.astype(float), None))


def test_a_small_round_of_krum_is_clipped_to_the_median_norm():
    updates = np.array([[3.0, 4.0], [0.3, 0.4], [300.0, 400.0], [0.0, 0.0]], np.float32)
    typical = (0.5 + 5) / 2
    expected = (np.array([0.6, 0.8]) * (typical + 0.5 + typical)) / 4
    np.testing.assert_allclose(answer(krum(1), updates)[0], expected, rtol=1e-5)


def test_trimming_counts_like_decimals():
    """0.29 of 100 is 29, though 0.29 * 100 is less in floating point; 0.1 of 30 is 3 in single precision too."""
    for fraction, count, cut in ((0.29, 100, 29), (0.1, 30, 3), (0.3, 9, 2), (0.49, 100, 49)):
        updates = np.random.default_rng(count).normal(size=(count, 2))
        expected = np.sort(updates, axis=0)[cut : count - cut].mean(0)
        stack = Stack({"w": jnp.asarray(updates, jnp.float32)}, jnp.ones((count, 1)), jnp.arange(count, dtype=jnp.uint32), WHOLE)
        _, found = trimmed_mean(fraction).stack((), {"update": stack}, jax.random.key(0))
        np.testing.assert_allclose(found["update"].mean()["w"], expected, rtol=1e-4, atol=1e-6)


def test_the_geometric_median_is_closer_to_all_than_any_neighbour():
    updates, weights = instance(5, 9)
    with jax.enable_x64(True):
        found, _ = answer(geometric_median(iterations=500), updates, weights)

    def cost(point):
        return float(weights @ np.linalg.norm(updates - point, axis=1))

    for step in np.concatenate([np.eye(5), -np.eye(5)]) * 1e-3:
        assert cost(found) <= cost(found + step) + 1e-9


def lots(ids, seed):
    """The order in which clients are dealt into buckets: a hash of the round and the client."""
    key = jax.random.key(seed)
    return np.argsort([int(jax.random.bits(jax.random.fold_in(key, id_), dtype=jnp.uint32)) for id_ in ids])


@pytest.mark.parametrize(("count", "size"), [(9, 2), (8, 4), (5, 3), (3, 7)])
def test_buckets_are_averaged_before_they_are_clipped(count, size):
    updates, weights = instance(count, count)
    ids = np.random.default_rng(1).permutation(100)[:count]
    link = centered_clip(0.8, bucket_size=size, iterations=2)
    centre = np.arange(5) / 10
    expected = rules.centered_clip(updates, centre, 0.8, 2, rules.consecutive(lots(ids, 4), size))
    found, _ = answer(link, updates.astype(np.float32), weights, ids=ids, centre=centre, seed=4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    there = np.sort(np.random.default_rng(2).choice(SEATS, count, replace=False))  # absent ones shift nobody
    again, _ = answer(link, updates.astype(np.float32), weights, ids=ids, centre=centre, seed=4, there=there)
    np.testing.assert_allclose(again, found, rtol=1e-6, atol=1e-7)


def test_every_client_is_as_often_alone_in_the_last_bucket():
    """Of three clients in buckets of two, the one alone has half of the mean, and the pair a quarter each."""
    rounds = 300
    link, updates = centered_clip(10.0, bucket_size=2), np.eye(3, 5, dtype=np.float32)
    means = np.stack([answer(link, updates, seed=seed)[0] for seed in range(rounds)])
    np.testing.assert_allclose(np.sort(means[:, :3], axis=1), np.tile([0.25, 0.25, 0.5], (rounds, 1)), rtol=1e-6)
    share = np.bincount(means.argmax(axis=1), minlength=3) / rounds
    assert np.abs(share - 1 / 3).max() < 4.5 * np.sqrt(2 / 9 / rounds)


def test_centered_clip_starts_where_it_ended():
    """Three rounds of the same updates walk to their mean with steps of at most the radius, and modules without a holder stay."""
    modules = fe.modules.assign({"a": np.zeros(1), "b": np.zeros(1)})
    link, params = centered_clip(1.0), modules.split({"a": jnp.zeros(1), "b": jnp.zeros(1)})
    state = link.init_server(params, Meta(np.ones(2, int), modules))
    where = []
    for present in ([1.0, 1.0], [1.0, 0.0], [1.0, 1.0]):
        stack = Stack(
            {"a": jnp.full((2, 1), 2.5), "b": jnp.full((2, 1), -4.0)}, jnp.array([present] * 2), jnp.arange(2, dtype=jnp.uint32), modules
        )
        state, found = link.stack(state, {"update": stack, "control": stack}, jax.random.key(0))
        where.append([float(state["a"][0]), float(state["b"][0]), float(found["control"].mean()["a"][0])])
        np.testing.assert_allclose(found["update"].mean()["a"], state["a"], rtol=1e-6)
    np.testing.assert_allclose(where, [[1, -1, 1], [2, -1, 1], [2.5, -2, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "updates"),
    [
        ([0, 1, 1], [[1, 0], [1, 1], [2, 0]]),  # the root is away
        ([1, 1, 1], [[0, 0], [1, 1], [2, 0]]),  # it learnt nothing
        ([1, 1, 1], [[1, 0], [-1, 1], [-2, 0]]),  # nobody agrees with it
        ([1, 0, 0], [[1, 0], [1, 1], [2, 0]]),  # it is alone
    ],
)
def test_fltrust_without_trust_does_not_move(weights, updates):
    found, aggregate = answer(fltrust(0), np.asarray(updates, np.float32), np.asarray(weights, float))
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(aggregate.weight, 0)


def test_fltrust_counts_whom_it_trusts_and_keeps_the_weight_of_all():
    _, aggregate = answer(fltrust(0), np.array([[1, 0], [1, 1], [-2, 0], [3, 0]], np.float32), np.array([5.0, 1, 2, 3]))
    np.testing.assert_array_equal(aggregate.contributors, [2])
    np.testing.assert_allclose(aggregate.weight, [11], rtol=1e-6)


def test_fltrust_in_an_engine_whose_sampler_includes_the_root():
    root = int(cohort.POPULATION.ids[4])
    away = np.ones((3, cohort.CLIENTS), bool)
    away[1, 4] = False
    built = cohort.engine(fltrust(root), present=away)
    _, info = built.run(built.init(cohort.puppet.PARAMS), 2)
    assert info.update_norm[0] > 0 == info.update_norm[1]
    sampler = fe.cohorts.including(fe.cohorts.uniform(7), [root])
    drawn = cohort.engine(fltrust(root), sampler=sampler)
    _, info = drawn.run(drawn.init(cohort.puppet.PARAMS), 4)
    assert (info.update_norm > 0).all()


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: trimmed_mean(0.5), "fraction"),
        (lambda: trimmed_mean(-0.1), "fraction"),
        (lambda: krum(-1), "f"),
        (lambda: multi_krum(1, 0), "keep"),
        (lambda: geometric_median(0), "iterations"),
        (lambda: geometric_median(smoothing=0.0), "smoothing"),
        (lambda: centered_clip(0.0), "radius"),
        (lambda: centered_clip(1.0, bucket_size=0), "bucket_size"),
        (lambda: centered_clip(1.0, iterations=0), "iterations"),
        (lambda: fltrust(-1), "root"),
        (lambda: cohort.engine(krum(5)), "aggregator"),
        (lambda: cohort.engine(multi_krum(1, 12)), "aggregator"),
        (lambda: cohort.engine(fltrust(10**6)), "aggregator"),
    ],
)
def test_arguments_that_cannot_work(make, argument):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.argument == argument


def test_a_cohort_too_small_for_krum_is_named():
    sampler = fe.cohorts.uniform(6)
    with pytest.raises(ArgumentError, match=r"aggregator: got krum with uniform\(6\).*6.*; use a cohort of at least 7 clients"):
        fe.Engine(cohort.POPULATION, cohort.puppet.algorithm(), cohort=sampler, aggregator=fe.aggregation.chain(krum(2)))
    fe.Engine(cohort.POPULATION, cohort.puppet.algorithm(), cohort=fe.cohorts.uniform(7), aggregator=krum(2))


@pytest.mark.parametrize("link", [median(), krum(1), geometric_median(), centered_clip(1.0), fltrust(1)])
def test_no_clip_makes_a_rule_fit_for_noise(link):
    assert fe.aggregation.chain(fe.aggregation.clip(1.0), link).sensitivity() == float("inf")
