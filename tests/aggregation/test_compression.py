"""Compression against published numbers and stated properties: unbiased rounding, its variance, residuals that lose nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from fedjax_edu.aggregation import chain, clip, mean, quantise, randk, sign, topk
from fedjax_edu.core.algorithm import Channel, Meta
from fedjax_edu.core.errors import ArgumentError
from tests.aggregation import puppet
from tests.aggregation.table import drawn
from tests.reference.clients import client_info, context
from tests.reference.problems import Linear, identical

COMPRESSORS = {"topk": lambda: topk(0.3), "randk": lambda: randk(0.3, seed=7), "sign": sign}
STANDARD_ERRORS = 5.0  # a normal number is farther out with a probability of 6e-7


def send(link, update, state=None, *, weight=1.0, server=None, seed: int = 0, modules=None):
    """The link's client half on a private update, from an empty memory unless given one: ``(sent, state)``."""
    modules = modules or fe.modules.assign(update)
    server = link.init_server(update, Meta(np.ones(1, int), modules)) if server is None else server
    state = link.init_client(modules.split(update), client_info(len(modules.names))) if state is None else state
    channels = {"update": Channel(update, jnp.asarray(weight, jnp.float32), True)}
    channels, state, _ = link.client(server, state, channels, context(modules, seed=seed))
    return channels["update"].value, state


def vector(*values: float) -> dict[str, jax.Array]:
    return {"w": jnp.array(values, jnp.float32)}


def rounded(levels: int, value: np.ndarray, times: int) -> np.ndarray:
    """A vector quantised with many keys: [times, d]."""
    link, modules = quantise(levels), fe.modules.assign(vector(0))

    def once(seed):
        channels = {"update": Channel({"w": jnp.asarray(value)}, jnp.ones(()), True)}
        own = context(modules)._replace(key=jax.random.key(seed))
        return link.client((), (), channels, own)[0]["update"].value["w"]

    return np.asarray(jax.jit(jax.vmap(once))(jnp.arange(times)), np.float64)


# Published numbers, and what top-k and signs do.


def test_qsgd_on_the_published_vector():
    """(3, -4, 0, 0) with one level: 1.4 nonzeros on average, a variance of exactly 10, under the bound of 50."""
    times = 20_000
    found = rounded(1, np.array([3, -4, 0, 0], np.float32), times)
    assert set(np.unique(found)) == {-5, 0, 5}
    nonzeros, squares = (found != 0).sum(1), ((found - [3, -4, 0, 0]) ** 2).sum(1)
    for values, expected in ((nonzeros, 1.4), (squares, 10.0)):
        assert abs(values.mean() - expected) < STANDARD_ERRORS * values.std() / times**0.5
    assert squares.mean() < 50


def test_sign_on_the_published_vector():
    sent, residual = send(sign(), vector(3, -4, 0, 0))
    np.testing.assert_array_equal(sent["w"], [1.75, -1.75, 0, 0])
    np.testing.assert_array_equal(residual["w"], [1.25, -2.25, 0, 0])


def test_top_1_on_the_published_rows():
    rows = [(3, -4, 1, 0.5), (1, 1, 1, 0.5), (0, 1, -1, 0.5), (1, 1, 2, 0.5)]
    residual, sent = vector(0, 0, 0, 0), []
    for row in rows:
        value, residual = send(topk(0.25), vector(*row), residual)
        sent.append(value["w"])
    np.testing.assert_array_equal(sent, [[0, -4, 0, 0], [4, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]])
    np.testing.assert_array_equal(residual["w"], [1, 1, 0, 2])


def test_topk_keeps_exactly_k_and_the_lowest_index_of_ties():
    sent, residual = send(topk(0.5), vector(1, -2, 2, -2, 2, 1))
    np.testing.assert_array_equal(sent["w"], [0, -2, 2, -2, 0, 0])
    np.testing.assert_array_equal(residual["w"], [1, 0, 0, 0, 2, 1])
    constant, _ = send(topk(0.07), {"w": jnp.ones((10, 10))})
    assert np.count_nonzero(constant["w"]) == 7


@pytest.mark.parametrize("link", [topk(1.0), randk(1.0)], ids=["topk", "randk"])
def test_all_coordinates_leave_nothing_behind(link):
    update = {"w": jnp.arange(-3.0, 4.0), "b": jnp.float32(0.1), "empty": jnp.zeros((0, 3))}
    sent, residual = send(link, update)
    assert identical(sent, update)
    assert identical(residual, jax.tree.map(jnp.zeros_like, update))


# Rounding is unbiased.


@pytest.mark.parametrize("size", [1, 7, 60])
@pytest.mark.parametrize("levels", [1, 3, 16])
def test_quantised_values_are_unbiased_with_a_bounded_variance(levels, size):
    times, rng = 4000, np.random.default_rng(size)
    value = (rng.normal(size=size) * np.exp(rng.normal(size=size))).astype(np.float32)
    norm, found = np.linalg.norm(value.astype(np.float64)), rounded(levels, value, times)
    heights = found * levels / norm
    np.testing.assert_allclose(heights, np.round(heights), atol=1e-4)
    fraction = levels * np.abs(value.astype(np.float64)) / norm % 1
    deviation = norm / levels * np.sqrt(fraction * (1 - fraction) / times)  # of the mean, a coordinate a binomial number
    assert (np.abs(found.mean(0) - value) <= STANDARD_ERRORS * deviation + 1e-6 * norm).all()
    squares = ((found - value) ** 2).sum(1)
    assert squares.mean() - STANDARD_ERRORS * squares.std() / times**0.5 <= min(size / levels**2, size**0.5 / levels) * norm**2
    assert abs(squares.mean() - times * np.sum(deviation**2)) <= STANDARD_ERRORS * squares.std() / times**0.5 + 1e-9 * norm**2


def test_coins_differ_between_leaves_channels_and_keys():
    link, modules, same = quantise(1), fe.modules.assign({"a": 0.0, "b": 0.0}), jnp.ones(64)
    tree = {"a": same, "b": same}
    channels = {name: Channel(tree, jnp.ones(()), name != "public") for name in ("one", "two", "public")}
    found = [link.client((), (), channels, context(modules, seed=seed))[0] for seed in (0, 1)]
    tosses = [np.asarray(each[name].value[leaf]).tobytes() for each in found for name in ("one", "two") for leaf in "ab"]
    assert len(set(tosses)) == 8
    assert identical(found[0]["public"].value, tree)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_quantise_where_squares_overflow_or_vanish(scale):
    sent, _ = send(quantise(5), vector(3 * scale, -4 * scale))  # 3/5 and 4/5 are levels, so that nothing is left to chance
    np.testing.assert_allclose(sent["w"], [3 * scale, -4 * scale], rtol=1e-6)


def test_no_bound_survives_rounding():
    """A vector of 100 equal coordinates can come out ten times as long, and a longer one longer: there is no bound to return."""
    assert chain(clip(1.0), quantise(1), mean()).sensitivity() == float("inf")
    lengths = np.linalg.norm(rounded(1, np.full(100, 0.1, np.float32), 200), axis=1)
    assert lengths.mean() > 2.5 and lengths.max() > 3.5


# Random coordinates: of the round alone.


def test_random_coordinates_are_those_of_the_round_and_of_nobody():
    params = {"a": np.zeros(40), "b": np.zeros((8, 5))}
    modules, link = fe.modules.assign(params), randk(0.3, seed=1)
    first = drawn(link, 0, params, modules)
    assert [np.count_nonzero(mask) for mask in jax.tree.leaves(first)] == [12, 12]
    assert identical(first, drawn(link, 0, params, modules, seed=9))
    update = jax.tree.map(lambda leaf: jnp.asarray(np.random.default_rng(3).normal(size=leaf.shape), jnp.float32), params)
    sent, _ = send(link, update, server=jnp.int32(0), modules=modules)
    assert identical(jax.tree.map(lambda leaf: np.asarray(leaf) != 0, sent), first)
    others = (first["b"].ravel(), drawn(link, 1, params, modules)["a"], drawn(randk(0.3, seed=2), 0, params, modules)["a"])
    assert all((first["a"] != other).any() for other in others)


def test_random_coordinates_are_uniform():
    size, rounds = 10, 2000
    link, params = randk(0.3), {"w": np.zeros(size)}
    modules = fe.modules.assign(params)

    def once(number):
        channels = {"update": Channel({"w": jnp.ones(size)}, jnp.ones(()), True)}
        return link.client(number, {"w": jnp.zeros(size)}, channels, context(modules))[0]["update"].value["w"]

    masks = np.asarray(jax.jit(jax.vmap(once))(jnp.arange(rounds, dtype=jnp.int32)))
    np.testing.assert_array_equal(masks.sum(1), np.full(rounds, 3))
    single, pairs = masks.mean(0), (masks.T @ masks / rounds)[np.triu_indices(size, 1)]
    for found, expected in ((single, 3 / 10), (pairs, 3 / 10 * 2 / 9)):
        assert (np.abs(found - expected) < STANDARD_ERRORS * (expected * (1 - expected) / rounds) ** 0.5).all()


def test_the_server_counts_its_sums():
    state, aggregates = randk(0.5).server(jnp.int32(3), {}, jax.random.key(0))
    assert (int(state), aggregates) == (4, {})


# Memory.


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_module_without_weight_sends_nothing_and_forgets_nothing(name):
    update = {"here": jnp.array([1.0, -2.0, 4.0]), "not_here": jnp.array([1.0, 5.0])}
    modules, old = fe.modules.assign(update), {"here": jnp.array([0.5, 0.0, 1.0]), "not_here": jnp.array([0.25, 3.0])}
    sent, residual = send(COMPRESSORS[name](), update, old, weight=[2.0, 0.0], modules=modules)
    np.testing.assert_array_equal(sent["not_here"], [0, 0])
    assert identical(residual["not_here"], old["not_here"])
    assert np.count_nonzero(sent["here"]) and not identical(residual["here"], old["here"])
    sent, residual = send(COMPRESSORS[name](), update, old, weight=0.0, modules=modules)
    assert identical((sent, residual), (jax.tree.map(jnp.zeros_like, update), old))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_memory_is_of_shared_modules_and_of_the_leaves_that_are_sent(name):
    params = {"body": jnp.ones((2, 2), jnp.bfloat16), "bias": jnp.ones(3), "own": jnp.ones(5), "fixed": jnp.ones(5)}
    modules = fe.modules.assign(params, personal="own", frozen="fixed", shared=...)
    link = COMPRESSORS[name]()
    memory = link.init_client(modules.split(params), client_info(4))
    assert identical(memory, {"body": jnp.zeros((2, 2), jnp.bfloat16), "bias": jnp.zeros(3), "own": None, "fixed": None})
    sent, after = send(link, {"body": params["body"]}, memory, server=jnp.int32(0), modules=modules)
    assert sent["body"].dtype == after["body"].dtype == jnp.bfloat16
    assert identical(after["bias"], memory["bias"])


@pytest.mark.parametrize("name", COMPRESSORS)
def test_64_bits_are_kept(name):
    with jax.enable_x64():
        update = {"w": jnp.asarray(np.random.default_rng(0).normal(size=9))}
        sent, residual = send(COMPRESSORS[name](), update)
        assert sent["w"].dtype == residual["w"].dtype == jnp.float64
        np.testing.assert_allclose(sent["w"] + residual["w"], update["w"], rtol=1e-15)


@pytest.mark.parametrize("name", ["topk", "randk"])
def test_what_is_sent_and_what_is_kept_make_the_whole_bit_for_bit(name):
    rng = np.random.default_rng(0)
    update, old = ({"w": jnp.asarray(rng.normal(size=50) * 10.0 ** rng.integers(-20, 20, 50), jnp.float32)} for _ in range(2))
    sent, residual = send(COMPRESSORS[name](), update, old)
    assert identical({"w": sent["w"] + residual["w"]}, {"w": update["w"] + old["w"]})
    assert not np.any((sent["w"] != 0) & (residual["w"] != 0))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressor_leaves_other_channels_alone_and_takes_nothing_else_into_an_update(name):
    link, modules = COMPRESSORS[name](), fe.modules.assign(vector(0))
    memory, own = vector(0), context(modules)
    other = {"gradient": Channel(vector(1), jnp.ones(()), True)}
    assert link.client(jnp.int32(0), memory, other, own) == (other, memory, {})
    with pytest.raises(ArgumentError, match=f"^{name}: got update with the leaf count; send"):
        link.client(jnp.int32(0), memory, {"update": Channel(vector(1) | {"count": jnp.ones(())}, jnp.ones(()), True)}, own)


def test_an_algorithm_without_an_update_is_told_before_anything_is_compiled():
    algorithm = puppet.algorithm()
    (stage,) = algorithm.stages

    def finish(shared, local, info):
        channels, state, weight = stage.finish(shared, local, info)
        return {"gradient": channels["update"], "public": channels["public"]}, state, weight

    engine = _engine(topk(0.5), algorithm=algorithm._replace(stages=(stage._replace(finish=finish),)))
    with pytest.raises(ArgumentError, match=r"^topk: got channels .*; use it with an algorithm that sends a channel 'update'"):
        engine.init(puppet.PARAMS, seed=0)


def test_algorithms_with_a_stage_of_their_own_can_be_compressed():
    problem = Linear()
    mime = fe.algorithms.mime(problem.loss, client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(epochs=1))
    plan = fe.ExecutionPlan(lanes=2)
    engine = fe.Engine(problem.population(), mime, cohort=fe.cohorts.everyone(), aggregator=chain(topk(0.5), mean()), plan=plan)
    _, info = engine.run(engine.init(problem.params), 1)
    full, half = 16, 9 + 4  # of three coordinates and of one: two floats with two bits of index each, and a float
    assert (info.bytes_up[0], info.bytes_down[0]) == (10 * (full + half), 10 * 2 * full)


COUNT, REJECTED, BROKEN_ROUND, ROUNDS = 5, 3, 2, 6


def _updates():
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda leaf: rng.integers(-50, 51, (COUNT, *leaf.shape)).astype(np.float32), puppet.PARAMS)


def _engine(*links, algorithm=None) -> fe.Engine:
    return fe.Engine(
        puppet.population(_updates(), np.ones((COUNT, 3), np.float32)),
        algorithm or puppet.algorithm(),
        cohort=fe.cohorts.everyone(),
        aggregator=chain(*links, mean()),
        plan=fe.ExecutionPlan(lanes=2),
    )


def changing(target: int):
    """Multiplies updates by a number of the round, so that no two are alike, and breaks one client's in one round."""

    def client(number, state, channels, own):
        broken = (own.client.id == jnp.uint32(target)) & (number == BROKEN_ROUND)
        factor = jnp.where(broken, jnp.inf, (number * number - 4 * number - 1).astype(jnp.float32))
        value = jax.tree.map(lambda leaf: leaf * factor, channels["update"].value)
        return channels | {"update": channels["update"]._replace(value=value)}, state, {}

    return puppet.counter()._replace(name="changing", client=client, init_client=lambda params, info: ())


def ledger():
    """Adds up what each client sends, as its state."""

    def client(server, state, channels, own):
        return channels, jax.tree.map(jnp.add, state, channels["update"].value), {}

    return puppet.counter()._replace(name="ledger", place="compress", client=client, init_client=topk(1.0).init_client)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_all_that_was_sent_and_the_residual_are_all_updates(name):
    """Also for a client that one round rejects, which then neither sends nor remembers: its update of that round is lost."""
    updates = _updates()
    target = int(puppet.population(updates, np.ones((COUNT, 3), np.float32)).ids[REJECTED])
    engine = _engine(changing(target), COMPRESSORS[name](), ledger())
    state, info = engine.run(engine.init(puppet.PARAMS, seed=0), ROUNDS)
    np.testing.assert_array_equal(info.rejected, np.arange(ROUNDS) == BROKEN_ROUND)
    factors = np.arange(ROUNDS) ** 2 - 4 * np.arange(ROUNDS) - 1
    total = np.full(COUNT, factors.sum())
    total[REJECTED] -= factors[BROKEN_ROUND]
    _, residual, sent, _ = state.links_clients
    tolerance = {"rtol": 1e-6, "atol": 1e-3} if name == "sign" else {"rtol": 0, "atol": 0}  # means are no integers
    for kept, went, update in zip(*map(jax.tree.leaves, (residual, sent, updates)), strict=True):
        assert np.count_nonzero(went)
        np.testing.assert_allclose(went + kept, update * total.reshape(-1, *(1,) * (update.ndim - 1)), **tolerance)
    assert np.count_nonzero(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(residual)]))


# Clipping by module.


def test_each_module_is_clipped_by_itself_and_statistics_are_one_more():
    modules = fe.modules.assign({"long": {"a": 0.0, "b": 0.0}, "short": 0.0})
    value = {"long": {"a": jnp.array([3.0]), "b": jnp.array([4.0])}, "short": jnp.array([0.3, 0.4]), "count": jnp.array([-2.0])}
    channels, _, statistics = clip(3**0.5, per_module=True).client((), (), {"update": Channel(value, jnp.ones(()), True)}, context(modules))
    found = channels["update"].value
    np.testing.assert_allclose(found["long"]["a"], [0.6], rtol=1e-6)
    np.testing.assert_allclose(found["long"]["b"], [0.8], rtol=1e-6)
    assert identical(found["short"], value["short"])
    np.testing.assert_allclose(found["count"], [-1.0], rtol=1e-6)
    np.testing.assert_allclose([statistics["norm"], statistics["clipped"]], [(25 + 0.25 + 4) ** 0.5, 2 / 3], rtol=1e-6)


def test_one_module_alone_is_clipped_as_a_whole():
    value = {"w": jnp.array([3.0, -4.0, 1.0]), "b": jnp.array([7.0])}
    modules = fe.modules.assign({"w": 0.0, "b": 0.0}, shared=["w", "b"])
    alone = {"w": value["w"]}
    whole, parts = (
        clip(2.0, per_module=flag).client((), (), {"update": Channel(alone, jnp.ones(()), True)}, context(modules))
        for flag in (False, True)
    )
    assert identical((parts[0]["update"].value, parts[2]), (whole[0]["update"].value, whole[2]))


# Arguments that cannot work.


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan"), float("inf")])
@pytest.mark.parametrize("make", [topk, randk])
def test_fractions_that_cannot_work(make, fraction):
    with pytest.raises(ArgumentError) as caught:
        make(fraction)
    assert caught.value.argument == "fraction"


@pytest.mark.parametrize("levels", [0, -1, 2**22 + 1])
def test_levels_that_cannot_work(levels):
    with pytest.raises(ArgumentError) as caught:
        quantise(levels)
    assert caught.value.argument == "levels"


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_cannot_work(seed):
    with pytest.raises(ArgumentError) as caught:
        randk(0.5, seed=seed)
    assert caught.value.argument == "seed"
