"""Samplers that look at losses: against NumPy, against exact distributions, and what every sampler with a state has to keep."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from scipy.stats import chi2

import fedjax_edu as fe
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.engine.cohorts import asynchronous, available, everyone, including, oort, power_of_choice, uniform, weighted
from fedjax_edu.engine.cohorts.oort import Seen, slowness, statistical_utility
from fedjax_edu.engine.cohorts.sampler import Feedback
from tests.reference.oort import Oort
from tests.reference.problems import SIZES, Linear, identical, largest_gap

ALARM, RATE = 1e-6, 0.05
FULL = [client for client, size in enumerate(SIZES) if size]
IDS = (np.arange(len(SIZES))[::-1] * 7919 + 13).astype(np.uint32)
SECONDS = np.array([4.0, 1.0, 2.0, 0.5, 8.0, 1.5, 3.0, 0.25, 1.0, 2.5, 6.0, 1.0])
LOCAL = fe.LocalTraining(epochs=1, batch_size=4)


def engine(cohort, *, lanes=3, devices=1, personal="head", local=LOCAL, make=None, problem=None) -> fe.Engine:
    problem = problem or Linear()
    make = make or (fe.algorithms.fedbuff if cohort.stale else fe.algorithms.fedavg)
    return fe.Engine(
        problem.population(),
        make(problem.loss, client_optimizer=optax.sgd(RATE), local=local, weighting="uniform"),
        cohort=cohort,
        aggregator=fe.aggregation.mean(),
        modules=fe.modules.assign(problem.params, personal=personal) if personal else None,
        plan=fe.ExecutionPlan(lanes=lanes, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,)), chunk=8),
    )


def unasked(clients):
    raise AssertionError("this sampler does not measure losses")


def draw(bound, state, number: int, losses=unasked, seed: int = 0):
    return bound.draw(state, fold(jax.random.key(seed), Purpose.COHORT, number), jnp.int32(number), losses)


def who_trained(before: fe.State, after: fe.State) -> set[int]:
    """Participants, told by their personal module."""
    return set(np.flatnonzero(np.asarray(before.clients["head"]["b"]) != np.asarray(after.clients["head"]["b"])).tolist())


def successive(weights: dict[int, float], size: int) -> dict[tuple[int, ...], float]:
    """The probability of every order of drawing one client after another without replacement, proportionally to weights."""
    orders = {}
    for order in itertools.permutations(weights, size):
        left, chance = sum(weights.values()), 1.0
        for client in order:
            chance, left = chance * weights[client] / left, left - weights[client]
        orders[order] = chance
    return orders


def fits(sets: list[frozenset[int]], chances: dict[frozenset[int], float]) -> bool:
    """Whether drawn sets have the frequencies that they should, by a chi-square test."""
    assert set(sets) <= set(chances)
    expected = {members: chance * len(sets) for members, chance in chances.items() if chance * len(sets) >= 5}
    counts = {members: sum(each == members for each in sets) for members in expected}
    rest = len(sets) - sum(expected.values())
    statistic = sum((counts[members] - mean) ** 2 / mean for members, mean in expected.items())
    if rest > 5:
        statistic += (len(sets) - sum(counts.values()) - rest) ** 2 / rest
    return chi2.sf(statistic, max(len(expected) - (rest <= 5), 1)) > ALARM


def chances_of_sets(orders: dict[tuple[int, ...], float], keep=lambda order: order) -> dict[frozenset[int], float]:
    chances: dict[frozenset[int], float] = {}
    for order, chance in orders.items():
        members = frozenset(keep(order))
        chances[members] = chances.get(members, 0.0) + chance
    return chances


# Power-of-choice


def test_power_of_choice_keeps_the_candidates_of_largest_loss_under_their_own_models():
    problem = Linear()
    built, everybody = engine(power_of_choice(3, 6)), power_of_choice(6, 6).bind(np.arange(12, dtype=np.uint32), {}, np.array(SIZES))
    state, own_matters = built.init(problem.params, seed=4), False
    for number in range(8):
        asked = np.asarray(draw(everybody, (), number, lambda clients: jnp.zeros(clients.shape), seed=4)[0].clients).tolist()
        params = jax.tree.map(np.asarray, state.params)

        def mean_loss(client: int, head, params=params) -> float:
            rows = np.arange(*problem.offsets[client : client + 2])
            return problem.losses({"layer": params["layer"], "head": {"b": head}}, rows).mean()

        own = {client: mean_loss(client, np.asarray(state.clients["head"]["b"])[client]) for client in asked}
        common = {client: mean_loss(client, params["head"]["b"]) for client in asked}
        top = set(sorted(own, key=own.get)[-3:])
        own_matters |= top != set(sorted(common, key=common.get)[-3:])
        assert set(built.schedule(state, 1)[0][0].tolist()) == top
        after, info = built.run(state, 1)
        assert who_trained(state, after) == top
        np.testing.assert_allclose(info.cohort["candidate_loss"], np.mean(list(own.values())), rtol=1e-5)
        state = after
    assert own_matters


def test_as_many_candidates_as_clients_is_sampling_by_size():
    sizes = np.array(SIZES)
    plain, chosen = weighted(5, by=sizes).bind(IDS, {}, sizes), power_of_choice(5, 5).bind(IDS, {}, sizes)
    for number in range(20):
        drawn = draw(chosen, (), number, lambda clients: jnp.sin(clients.astype(jnp.float32)))[0]
        assert set(drawn.clients.tolist()) == set(draw(plain, (), number)[0].clients.tolist()) <= set(FULL)


def test_candidates_are_drawn_by_size():
    sizes, rounds = np.array([5, 1, 0, 9, 3, 14]), 30_000
    bound = power_of_choice(2, 3).bind(IDS[:6], {}, sizes)
    losses = np.array([0.1, 9.0, 50.0, 0.4, 3.0, 0.2], np.float32)
    one = jax.jit(jax.vmap(lambda number: bound.draw((), fold(jax.random.key(1), number), number, lambda at: jnp.asarray(losses)[at])[0]))
    drawn = [frozenset(each.tolist()) for each in np.asarray(one(jnp.arange(rounds)).clients)]
    orders = successive({client: float(size) for client, size in enumerate(sizes) if size}, 3)
    assert fits(drawn, chances_of_sets(orders, lambda order: sorted(order, key=lambda client: losses[client])[-2:]))


def test_equal_losses_are_told_apart_by_id_and_losses_that_are_not_finite_come_last():
    bound = power_of_choice(2, 5).bind(IDS[:5], {}, np.ones(5, int))
    assert draw(bound, (), 0, lambda clients: jnp.ones(5))[0].clients.tolist() == [4, 3]  # ids fall with the position

    def broken(clients):
        return jnp.where(clients == 4, jnp.nan, jnp.where(clients == 2, jnp.inf, clients.astype(jnp.float32)))

    assert draw(bound, (), 0, broken)[0].clients.tolist() == [3, 1]


# Oort


def test_utility_has_the_published_numbers():
    losses = np.array([1.0, 2.0, 3.0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(statistical_utility(jnp.mean(jnp.square(losses)), jnp.int32(50)), 108.012345, atol=5e-7)
        assert statistical_utility(jnp.array([jnp.inf, jnp.nan, 4.0]), jnp.array([2, 2, 3])).tolist() == [0, 0, 6]
    np.testing.assert_allclose(slowness(np.array([200.0, 100.0, 20.0]), 100.0, 0.5), [0.707107, 1, 1], atol=5e-7)


@pytest.mark.parametrize(
    ("cutoff", "options"),
    [
        (1.0, {}),
        (0.6, {"seconds": SECONDS, "deadline": 2.0, "penalty": 0.5}),
        (1.0, {"exploration": 0.55, "least": 0.3, "decay": 0.8, "seconds": SECONDS, "deadline": 1.0, "penalty": 2.0}),
    ],
)
def test_oort_against_its_twin(cutoff, options):
    bound, twin = oort(4, cutoff=cutoff, **options).bind(IDS, {}, np.array(SIZES)), Oort(4, cutoff=cutoff, **options)
    state, rng = bound.init(jax.random.key(0)), np.random.default_rng(2)
    tight = 0
    for number in range(14):
        new, strangers, familiar = twin.groups(FULL)
        drawn, state = draw(bound, state, number)
        clients = drawn.clients.tolist()
        assert len(set(clients)) == 4 and np.asarray(drawn.present).all()
        assert int(drawn.observed["new"]) == new == len(set(clients) & strangers)
        assert set(clients) <= strangers | familiar
        tight += 0 < len(familiar) == 4 - new  # nobody else could have been exploited
        accepted = rng.random(6) < [0.8, 0.8, 0.8, 0.8, 0.0, 0.0]  # two padded seats
        squares = rng.gamma(1.0, size=6).astype(np.float32)
        seats = np.array([*clients, 0, 0], np.int32)
        examples = np.array(SIZES, np.int32)[seats]
        state = bound.learn(
            state, Feedback(jnp.int32(number), *map(jnp.asarray, (seats, accepted, squares, squares, examples)), jnp.array(True))
        )
        twin.learn({int(c): (float(s), int(n)) for c, s, n, seen in zip(seats, squares, examples, accepted, strict=True) if seen})
        np.testing.assert_array_equal(state.last, [twin.last.get(client, 0) for client in range(12)])
        np.testing.assert_allclose(state.utility, [twin.statistical.get(client, 0) for client in range(12)], rtol=1e-6)
    assert tight >= (5 if cutoff == 1 else 0)


def test_oort_reads_the_losses_that_training_saw():
    problem = Linear()
    built = engine(oort(5), local=fe.LocalTraining(epochs=1), personal=None)
    state = built.init(problem.params, seed=1)
    for number in range(4):
        (cohort,), _ = built.schedule(state, 1)
        params = jax.tree.map(np.asarray, state.params)
        expected, last = np.array(state.cohort.utility), np.array(state.cohort.last)
        for client in cohort:
            losses = problem.losses(params, np.arange(*problem.offsets[client : client + 2]))
            expected[client], last[client] = len(losses) * np.sqrt(np.mean(losses**2)), number + 1
        state, info = built.run(state, 1)
        np.testing.assert_allclose(state.cohort.utility, expected, rtol=1e-5)
        np.testing.assert_array_equal(state.cohort.last, last)
        assert info.participants[0] == 5


def sets_drawn(bound, state, number: int, rounds: int = 30_000) -> list[frozenset[int]]:
    one = jax.jit(jax.vmap(lambda each: bound.draw(state, fold(jax.random.key(3), each), jnp.int32(number), unasked)[0].clients))
    return [frozenset(clients.tolist()) for clients in np.asarray(one(jnp.arange(rounds)))]


def test_exploitation_draws_by_utility_among_those_above_the_cut():
    sizes, known = np.ones(7, int), {0: 9.0, 1: 4.0, 2: 6.0, 4: 1.0, 5: 5.0, 6: 7.0}
    seconds = np.array([1.0, 1.0, 40.0, 1.0, 1.0, 1.0, 1.0])
    settings = {"exploration": 0.01, "least": 0.01, "cutoff": 0.65, "seconds": seconds, "deadline": 10.0, "penalty": 0.5}
    bound, twin = oort(2, **settings).bind(IDS[:7], {}, sizes), Oort(2, **settings)
    twin.round, twin.statistical = 21, known
    twin.last = {client: 1 + 3 * client for client in known}
    utility = np.array([known.get(client, 0) for client in range(7)], np.float32)
    last = np.array([twin.last.get(client, 0) for client in range(7)], np.int32)
    new, _, familiar = twin.groups(list(range(7)))
    assert new == 0 and familiar == {0, 5, 6}  # 7.x is the second largest; client 2 is late
    orders = successive({client: twin.utility(client) for client in familiar}, 2)
    assert fits(sets_drawn(bound, Seen(jnp.asarray(utility), jnp.asarray(last)), 20), chances_of_sets(orders))


@pytest.mark.parametrize("seconds", [None, SECONDS[:6]])
def test_exploration_is_uniform_or_by_speed(seconds):
    sizes = np.array([3, 2, 1, 0, 1, 8])
    bound = oort(2, seconds=seconds).bind(IDS[:6], {}, sizes)
    speed = np.ones(6) if seconds is None else 1 / seconds
    orders = successive({client: speed[client] for client in np.flatnonzero(sizes).tolist()}, 2)
    assert fits(sets_drawn(bound, bound.init(jax.random.key(0)), 0), chances_of_sets(orders))


# Samplers with a state

CASES = {"power_of_choice": power_of_choice(4, 7), "oort": oort(4), "asynchronous": asynchronous(4, 5, SECONDS)}
ROUNDS = 6


@pytest.fixture(scope="module", params=CASES)
def cohort(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def built(cohort):
    return engine(cohort)


@pytest.fixture(scope="module")
def straight(built):
    return built.run(built.init(Linear().params, seed=3), ROUNDS)


@pytest.mark.parametrize(("lanes", "devices"), [(1, 1), (4, 1), (2, 2), (1, 8)])
def test_layout_does_not_change_who_takes_part_nor_what_comes_out(cohort, straight, lanes, devices):
    laid_out = engine(cohort, lanes=lanes, devices=devices)
    state, info = laid_out.run(laid_out.init(Linear().params, seed=3), ROUNDS)
    assert largest_gap(state._replace(cohort=()), straight[0]._replace(cohort=())) < 3e-6
    np.testing.assert_array_equal(info.examples, straight[1].examples)
    found, expected = (jax.tree.leaves((after.cohort, told.cohort)) for after, told in ((state, info), straight))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_resumed_runs_are_bitwise_straight_and_share_one_program(built, straight):
    for stop in range(ROUNDS):
        state, first = built.run(built.init(Linear().params, seed=3), stop)
        state, second = built.run(state, ROUNDS - stop)
        assert identical(state, straight[0])
        assert identical(jax.tree.map(lambda *leaves: np.concatenate(leaves), first, second), straight[1])
    assert built._compiled(state.params).chunk._cache_size() == 1


def test_jit_off_draws_and_learns_the_same(cohort):
    bound = cohort.bind(IDS, {}, np.array(SIZES))

    def step(state, number):
        drawn, state = draw(bound, state, number, lambda clients: jnp.sin(clients.astype(jnp.float32)))
        square, examples = jnp.cos(drawn.clients.astype(jnp.float32)) ** 2, jnp.asarray(SIZES, jnp.int32)[drawn.clients]
        return drawn, bound.learn(state, Feedback(number, drawn.clients, drawn.present, square, square, examples, jnp.array(True)))

    def steps(step):
        state, drawn = bound.init(jax.random.key(1)), []
        for number in range(3):
            cohort, state = step(state, jnp.int32(number))
            drawn.append(cohort)
        return drawn, state

    jitted = steps(jax.jit(step))
    with jax.disable_jit():
        assert largest_gap(steps(step), jitted) < 1e-5


def test_rounds_without_anybody_change_no_model_and_teach_nothing(cohort):
    built = engine(available(cohort, np.zeros(12, bool)))
    start = built.init(Linear().params, seed=3)
    state, info = built.run(start, 3)
    assert identical(state._replace(round=start.round, cohort=()), start._replace(cohort=()))
    assert int(state.round) == 3 and not info.participants.any() and np.isnan(info.loss).all()
    if cohort.stale:
        assert int(state.cohort.version) == 0 and not np.asarray(state.cohort.started).any()  # time passes all the same
        assert (info.cohort["seconds"] > 0).all() and not info.cohort["staleness"].any()
    else:
        assert identical(state.cohort, start.cohort)


def test_wrapped_by_available_and_including(cohort):
    trace = np.random.default_rng(0).random((3, 12)) < 0.7
    built = engine(including(available(cohort, trace), [5]))
    state, bare = built.init(Linear().params, seed=3), cohort.bind(np.arange(12, dtype=np.uint32), {}, np.array(SIZES))
    for number in range(4):
        measured = partial(built._compiled(state.params).losses, state, built._resident)
        drawn, _ = draw(bare, state.cohort, number, measured if cohort.measures else unasked, seed=3)
        expected = {5, *(client for client in drawn.clients.tolist() if trace[number % 3, client])}
        assert set(built.schedule(state, 1)[0][0].tolist()) == expected
        after, info = built.run(state, 1)
        assert who_trained(state, after) == expected and info.participants[0] == len(expected)
        if isinstance(state.cohort, Seen):
            assert set(np.flatnonzero(np.asarray(after.cohort.last) == number + 1).tolist()) == expected
        state = after


def test_cohorts_of_adaptive_samplers_are_known_one_round_ahead():
    for adaptive in (power_of_choice(4, 7), oort(4), available(oort(4), np.ones(12, bool))):
        built = engine(adaptive)
        with pytest.raises(ArgumentError, match="rounds: got 2; ask for one round at a time"):
            built.schedule(built.init(Linear().params), 2)


# Combinations and arguments


@pytest.mark.parametrize("cohort", [power_of_choice(2, 4), oort(2), including(oort(2), [3])])
def test_sizes_do_not_count_twice(cohort):
    problem = Linear()
    algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optax.sgd(RATE), local=LOCAL, weighting="examples")
    with pytest.raises(ArgumentError, match="weighting: got examples; use weighting='uniform'"):
        fe.Engine(problem.population(), algorithm, cohort=cohort, aggregator=fe.aggregation.mean())


def test_what_samplers_say_of_themselves():
    for cohort in CASES.values():
        assert cohort.amplification == "none" and not cohort.independent
    assert all(CASES[name].by_size and CASES[name].adaptive and not CASES[name].stale for name in ("power_of_choice", "oort"))
    assert CASES["power_of_choice"].measures and not CASES["oort"].measures
    assert CASES["asynchronous"].stale and not CASES["asynchronous"].adaptive


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: power_of_choice(0, 3), "size"),
        (lambda: power_of_choice(4, 3), "candidates"),
        (lambda: power_of_choice(4, 11), "candidates"),
        (lambda: oort(0), "size"),
        (lambda: oort(11), "size"),
        (lambda: oort(3, exploration=0.0), "exploration"),
        (lambda: oort(3, exploration=1.1), "exploration"),
        (lambda: oort(3, least=0.95), "least"),
        (lambda: oort(3, decay=1.5), "decay"),
        (lambda: oort(3, cutoff=math.nan), "cutoff"),
        (lambda: oort(3, deadline=2.0), "seconds"),
        (lambda: oort(3, seconds=SECONDS, deadline=0.0), "deadline"),
        (lambda: oort(3, seconds=SECONDS, deadline=2.0, penalty=-1.0), "penalty"),
        (lambda: oort(3, seconds="absent"), "seconds"),
        (lambda: oort(3, seconds=SECONDS[:4]), "seconds"),
        (lambda: oort(3, seconds=SECONDS - 4.0), "seconds"),
        (lambda: oort(3, seconds=np.full(12, 1e300)), "seconds"),
        (lambda: oort(3, seconds=np.full((2, 12), 1.0)), "seconds"),
    ],
)
def test_arguments_that_cannot_work(make, argument):
    with pytest.raises(ArgumentError) as caught:
        make().bind(IDS, {}, np.array(SIZES))
    assert caught.value.argument == argument


# Samplers around samplers, and one without a state that no other file tries


def test_available_takes_a_trace_that_is_an_attribute_of_the_clients():
    trace = np.random.default_rng(1).random((12, 5)) < 0.5
    by_name = available(everyone(), "open").bind(IDS, {"open": trace}, np.array(SIZES))
    for number in range(11):
        np.testing.assert_array_equal(draw(by_name, (), number)[0].present, trace[:, number % 5])


def test_including_adds_clients_once_beside_the_others():
    always = IDS[[3, 7]]
    plain, joined = uniform(4).bind(IDS, {}, np.array(SIZES)), including(uniform(4), always).bind(IDS, {}, np.array(SIZES))
    assert joined.capacity == 6 and including(everyone(), always).independent and not including(uniform(4), always).independent
    overlap = 0
    for number in range(40):
        before, after = (draw(bound, (), number)[0] for bound in (plain, joined))
        present = after.clients[after.present].tolist()
        assert sorted(present) == sorted({*before.clients.tolist(), 3, 7})
        assert after.staleness.tolist() == [0] * 6
        overlap += len(present) < 6
    assert 0 < overlap < 40
    for wrong in ([], IDS[[0, 0]], np.array([0.5]), [999]):
        with pytest.raises(ArgumentError, match="ids: got"):
            including(uniform(4), wrong).bind(IDS, {}, np.array(SIZES))


@pytest.mark.parametrize(("size", "clients"), [(1, 1), (3, 7), (4, 12), (5, 5), (5, 6)])
def test_round_robin_goes_around(size, clients):
    bound = fe.cohorts.round_robin(size).bind(IDS[:clients], {}, np.ones(clients, int))
    order = []
    for number in range(23):
        drawn = draw(bound, (), number)[0]
        assert np.asarray(drawn.present).all() and len(set(drawn.clients.tolist())) == size
        order += drawn.clients.tolist()
        counts = np.bincount(order, minlength=clients)
        assert counts.max() - counts.min() <= 1
    assert order == [seat % clients for seat in range(23 * size)]
    last = draw(bound, (), 2**31 - 1)[0].clients.tolist()
    assert last == [((2**31 - 1) * size + seat) % clients for seat in range(size)]  # no overflow after billions of rounds
    with pytest.raises(ArgumentError, match="cohort: got"):
        fe.cohorts.round_robin(clients + 1).bind(IDS[:clients], {}, np.ones(clients, int))
