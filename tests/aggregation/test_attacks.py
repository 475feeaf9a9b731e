"""Attacks against published numbers and NumPy, with absent, rejected and too few honest clients; labels that lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import fedjax_edu as fe
from fedjax_edu.aggregation import attacks, chain, clip, mean
from fedjax_edu.core.algorithm import Channel, Meta
from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.core.stack import Stack
from tests.aggregation import cohort, puppet
from tests.reference import rules
from tests.reference.clients import context

MODULES = fe.modules.assign({"w": np.zeros(3)})


def initial(link) -> jax.Array:
    """The state with which an attack begins: who lies."""
    return link.init_server({}, Meta(np.ones(2, int), MODULES))


def sent(link, id_: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What a client sends after the link, on two private channels and a public one."""
    value = {"w": jnp.arange(1.0, 4.0)}
    given = {name: Channel(value, jnp.ones(()), name != "public") for name in ("update", "control", "public")}
    found, state, statistics = link.client(initial(link), (), given, context(MODULES, seed=seed, id_=id_))
    assert (state, statistics) == ((), {})
    assert all(found[name].weight is given[name].weight and found[name].private == given[name].private for name in given)
    return {name: np.asarray(channel.value["w"]) for name, channel in found.items()}


@pytest.mark.parametrize(
    ("link", "factor"), [(attacks.sign_flip([4, 9]), -1), (attacks.sign_flip([9], 2.5), -2.5), (attacks.model_replacement([9], 40.0), 40)]
)
def test_scaled_updates(link, factor):
    honest = np.arange(1.0, 4.0)
    for name, value in sent(link, 9).items():
        np.testing.assert_allclose(value, honest if name == "public" else factor * honest)
    for value in sent(link, 8).values():
        np.testing.assert_array_equal(value, honest)


def test_noise_in_place_of_updates():
    link = attacks.gaussian([9], std=3.0)
    draws = [sent(link, 9, seed) for seed in range(300)]
    numbers = np.stack([np.concatenate([draw["update"], draw["control"]]) for draw in draws])
    assert stats.kstest(numbers.ravel() / 3, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(numbers.T)[np.triu_indices(6, 1)]).max() < 4.5 / np.sqrt(len(draws))  # channels and coordinates differ
    np.testing.assert_array_equal(draws[0]["public"], [1, 2, 3])
    np.testing.assert_array_equal(sent(link, 8)["update"], [1, 2, 3])


def test_a_lie_keeps_the_type_of_the_update():
    for link in (attacks.sign_flip([3], 2.0), attacks.gaussian([3], 1.0), attacks.model_replacement([3], 5.0)):
        given = {"update": Channel({"w": jnp.ones(3, jnp.bfloat16)}, jnp.ones(()), True)}
        found, _, _ = link.client(initial(link), (), given, context(MODULES))
        assert found["update"].value["w"].dtype == jnp.bfloat16


def spoken(link, updates: np.ndarray, weights: np.ndarray, ids: np.ndarray) -> np.ndarray:
    stack = Stack({"w": jnp.asarray(updates)}, jnp.asarray(weights)[:, None], jnp.asarray(ids, jnp.uint32), MODULES)
    server, found = link.stack(initial(link), {"update": stack}, jax.random.key(0))
    np.testing.assert_array_equal(server, link.clients)
    np.testing.assert_array_equal(found["update"].weights, stack.weights)
    return np.asarray(found["update"].values["w"])


def deviations(n: int, f: int) -> float:
    """z of a cohort of n with f liars, read off what they send about honest updates of mean 0 and deviation 1."""
    updates = np.zeros((n, 3), np.float32)
    updates[f:] = np.where(np.arange(n - f) < (n - f) // 2, 1, -1)[:, None]
    if (n - f) % 2:
        updates[-1] = 0
    honest = updates[f:]
    found = spoken(attacks.alie(range(f)), updates, np.ones(n, np.float32), np.arange(n))
    return float((honest.mean() - found[0, 0]) / honest.std(0)[0])


@pytest.mark.parametrize(("n", "f", "expected"), [(50, 12, 0.336038), (10, 2, 0.0), (25, 5, float(stats.norm.ppf(12 / 20)))])
def test_published_deviations_of_a_little_is_enough(n, f, expected):
    np.testing.assert_allclose(deviations(n, f), expected, atol=2e-6)
    np.testing.assert_allclose(rules.alie_deviations(n, f), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "twin"),
    [
        (attacks.alie, rules.alie),
        (lambda ids: attacks.alie(ids, 1.5), lambda updates, liars: rules.alie(updates, liars, 1.5)),
        (lambda ids: attacks.ipm(ids, 0.4), lambda updates, liars: rules.ipm(updates, liars, 0.4)),
    ],
)
def test_liars_who_know_everything_equal_numpy(make, twin):
    rng = np.random.default_rng(0)
    ids = rng.permutation(40)[:9]
    with jax.enable_x64(True):
        for there in (np.ones(9, bool), np.arange(9) != 1, np.arange(9) > 3, np.arange(9) < 3, np.arange(9) >= 8):
            updates = rng.normal(size=(9, 3))
            liars = np.isin(np.arange(9), [0, 1, 2])
            found = spoken(make(ids[liars]), np.where(there[:, None], updates, 0), np.where(there, rng.uniform(1, 5, 9), 0), ids)
            np.testing.assert_allclose(found[there], twin(updates[there], liars[there]), rtol=1e-7, atol=1e-12)
            np.testing.assert_array_equal(found[~there], 0)


@pytest.mark.parametrize("honest", [1, 2])
def test_a_majority_of_liars_is_finite(honest):
    updates = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    found = spoken(attacks.alie(range(6 - honest)), updates, np.ones(6, np.float32), np.arange(6))
    assert np.isfinite(found).all()


def test_what_liars_learn_depends_on_no_absent_and_no_rejected_client():
    """The poisoned client is honest but rejected; a run without it gives the same lies."""
    liars = cohort.POPULATION.ids[[1, 7]]
    away = cohort.PRESENT & (np.arange(cohort.CLIENTS) != cohort.POISONED)
    link = chain(attacks.alie(liars, 2.0), mean())
    for (state, _), (expected, _) in zip(
        cohort.history(cohort.engine(link)), cohort.history(cohort.engine(link, present=away)), strict=True
    ):
        assert np.array_equal(state.params["head"], expected.params["head"]) and np.isfinite(state.params["head"]).all()


def test_a_clip_clips_what_lone_liars_send():
    liar = int(cohort.POPULATION.ids[7])
    only = np.tile(np.arange(cohort.CLIENTS) == 7, (1, 1))
    built = cohort.engine(chain(attacks.model_replacement([liar], 1e6), clip(0.5), mean()), present=only)
    state, _ = built.run(built.init(puppet.PARAMS), 1)
    size = np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)]))
    np.testing.assert_allclose(size, 0.5, rtol=1e-5)


def test_attacks_stand_first():
    with pytest.raises(ArgumentError, match="order the links as attack"):
        chain(clip(1.0), attacks.sign_flip([1]), mean())


@pytest.mark.parametrize("clients", [[], [1, 1], [-1], [0.5], [[1, 2]], [2**32 - 1], ["a"]])
def test_ids_that_cannot_be(clients):
    for make in (attacks.sign_flip, attacks.alie, lambda ids: attacks.ipm(ids, 1.0), lambda ids: attacks.gaussian(ids, 1.0)):
        with pytest.raises(ArgumentError) as caught:
            make(np.asarray(clients))
        assert caught.value.argument == "clients"


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: attacks.sign_flip([1], 0.0), "scale"),
        (lambda: attacks.gaussian([1], -1.0), "std"),
        (lambda: attacks.model_replacement([1], float("inf")), "factor"),
        (lambda: attacks.alie([1], float("nan")), "deviations"),
        (lambda: attacks.ipm([1], 0.0), "scale"),
        (lambda: cohort.engine(chain(attacks.sign_flip([10**6]), mean())), "aggregator"),
    ],
)
def test_arguments_that_cannot_work(make, argument):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert caught.value.argument == argument


LABELS = {"x": {"y": np.arange(6, dtype=np.int32) % 3, "z": np.arange(12.0, dtype=np.float32).reshape(6, 2)}}
POPULATION = fe.data.Population.from_arrays(LABELS, offsets=[0, 2, 2, 6], ids=[5, 8, 7], attributes={"school": [1, 2, 3]})


def test_labels_of_some_clients_are_flipped_and_nothing_else():
    found = fe.data.flip_labels(POPULATION, [7, 8], "x.y", lambda labels: 2 - labels)
    np.testing.assert_array_equal(found.arrays["x"]["y"], [0, 1, 0, 2, 1, 0])
    np.testing.assert_array_equal(POPULATION.arrays["x"]["y"], LABELS["x"]["y"])
    for name in ("ids", "offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(POPULATION, name))
    np.testing.assert_array_equal(found.arrays["x"]["z"], LABELS["x"]["z"])
    np.testing.assert_array_equal(found.attributes["school"], [1, 2, 3])


@pytest.mark.parametrize(
    ("clients", "leaf", "flip", "error", "argument"),
    [
        ([9], "x.y", lambda labels: labels, ArgumentError, "clients"),
        ([0.5], "x.y", lambda labels: labels, ArgumentError, "clients"),
        ([7], "y", lambda labels: labels, ArgumentError, "leaf"),
        ([7], "x.y", lambda labels: labels[:-1], ArgumentError, "flip"),
        ([7], "x.y", lambda labels: labels / 2, ArgumentError, "flip"),
        ([7], "x.z", lambda labels: labels * np.float32(np.nan), DataError, "arrays.x.z"),
    ],
)
def test_flips_that_cannot_be(clients, leaf, flip, error, argument):
    with pytest.raises(error) as caught:
        fe.data.flip_labels(POPULATION, np.asarray(clients), leaf, flip)
    assert caught.value.argument == argument
