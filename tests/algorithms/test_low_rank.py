"""Low-rank matrices averaged as products: identities on random instances, with a NumPy client."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, traverse_util

import fedjax_edu as fe
from tests.reference.problems import identical

A = fe.algorithms
RATE, STEPS, RANK, SIZES = 0.1, 3, 2, (5, 3, 8, 1)
SGD, LOCAL = optax.sgd(RATE), fe.LocalTraining(steps=STEPS)
WEIGHTS = np.array(SIZES) / sum(SIZES)
RANKS = np.array([2, 1, 0, 2], np.int32)


class Regression:
    """y = x (W + A B) for rows of several clients, in a Flax layer whose kernel is frozen."""

    def __init__(self, seed: int = 0):
        random = np.random.default_rng(seed)
        self.offsets = np.cumsum([0, *SIZES])
        self.x, self.y = random.normal(size=(sum(SIZES), 4)), random.normal(size=(sum(SIZES), 3))
        layer = fe.models.Linear(4, 3, rngs=nnx.Rngs(seed), bias=False)
        fe.models.add_low_rank(layer, lambda path: True, rank=RANK)
        self.apply, params = fe.models.functional(layer)
        filled = [random.normal(size=leaf.shape) for leaf in jax.tree.leaves(params)]
        self.params = jax.tree.unflatten(jax.tree.structure(params), filled)

    def population(self) -> fe.data.Population:
        return fe.data.Population.from_arrays({"x": self.x, "y": self.y}, self.offsets, attributes={"rank": RANKS})

    def loss(self, params, batch, key):
        return 0.5 * jnp.sum((self.apply(params, batch["x"]) - batch["y"]) ** 2, axis=1)

    def train(self, client: int, params: tuple[np.ndarray, ...], *, only_second: bool = False) -> tuple[np.ndarray, ...]:
        """A client's factors after its steps, in NumPy."""
        w, a, b = params
        rows = slice(self.offsets[client], self.offsets[client + 1])
        x, y = self.x[rows], self.y[rows]
        for _ in range(STEPS):
            slope = x.T @ (x @ (w + a @ b) - y) / len(x)
            a, b = a if only_second else a - RATE * slope @ b.T, b - RATE * a.T @ slope
        return a, b


def factors(params) -> tuple[np.ndarray, ...]:
    """W, A and B of the layer."""
    leaves = {path[-1]: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params).items()}
    return leaves["kernel"], leaves["a"], leaves["b"]


def begin(problem: Regression, algorithm, *, shared="lora", frozen="kernel"):
    modules = fe.modules.assign(problem.params, shared=shared, frozen=frozen)
    everyone, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    built = fe.Engine(problem.population(), algorithm, cohort=everyone, aggregator=mean, modules=modules)
    return built, built.init(problem.params, seed=3)


def mean_product(problem: Regression, w, starts) -> np.ndarray:
    ends = [problem.train(client, (w, *start)) for client, start in enumerate(starts)]
    return sum(weight * a @ b for weight, (a, b) in zip(WEIGHTS, ends, strict=True))


def cut(a, b, rank: int):
    return np.where(np.arange(RANK) < rank, a, 0), np.where(np.arange(RANK)[:, None] < rank, b, 0)


@pytest.fixture(autouse=True)
def doubles():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("seed", [0, 1])
def test_fedex_is_exact_where_fedavg_leaves_out_the_covariance_of_the_factors(seed):
    problem = Regression(seed)
    built, state = begin(problem, A.fedex_lora(problem.loss, client_optimizer=SGD, local=LOCAL))
    plain, inexact = begin(problem, A.fedavg(problem.loss, client_optimizer=SGD, local=LOCAL))
    for _ in range(3):
        w, a, b = factors(state.params)
        ends = [problem.train(client, (w, a, b)) for client in range(len(SIZES))]
        expected = w + sum(weight * a @ b for weight, (a, b) in zip(WEIGHTS, ends, strict=True))
        state, info = built.run(state, 1)
        w, a, b = factors(state.params)
        np.testing.assert_allclose(w + a @ b, expected, atol=1e-12)
        np.testing.assert_allclose(a, sum(weight * a for weight, (a, _) in zip(WEIGHTS, ends, strict=True)), atol=1e-12)
    w, a, b = factors(inexact.params)
    ends = [problem.train(client, (w, a, b)) for client in range(len(SIZES))]
    inexact, _ = plain.run(inexact, 1)
    w, mean_a, mean_b = factors(inexact.params)
    covariance = sum(weight * (a - mean_a) @ (b - mean_b) for weight, (a, b) in zip(WEIGHTS, ends, strict=True))
    exact = sum(weight * a @ b for weight, (a, b) in zip(WEIGHTS, ends, strict=True))
    np.testing.assert_allclose(exact - mean_a @ mean_b, covariance, atol=1e-12)
    assert np.linalg.norm(covariance) > 1e-4
    assert info.bytes_up[0] == len(SIZES) * 8 * (a.size + b.size) == info.bytes_down[0] - len(SIZES) * 8 * w.size


def test_a_first_factor_that_is_frozen_makes_averages_exact():
    """FFA-LoRA is FedAvg of the second factor alone."""
    problem = Regression()
    places = [".".join(map(str, path)) for path in traverse_util.flatten_dict(problem.params)]
    (first,) = [place for place in places if place.endswith(".a")]
    algorithm = A.fedavg(problem.loss, client_optimizer=SGD, local=LOCAL)
    built, state = begin(problem, algorithm, shared=first[:-1] + "b", frozen=[first, "kernel"])
    state, _ = built.run(state, 1)
    w, a, b = factors(problem.params)
    ends = [problem.train(client, (w, a, b), only_second=True) for client in range(len(SIZES))]
    np.testing.assert_array_equal(factors(state.params)[1], a)
    exact = sum(weight * a @ own for weight, (_, own) in zip(WEIGHTS, ends, strict=True))
    np.testing.assert_allclose(a @ factors(state.params)[2], exact, atol=1e-12)


def test_flora_merges_the_clients_matrices_whatever_their_ranks():
    problem = Regression()
    built, state = begin(problem, A.flora(problem.loss, client_optimizer=SGD, local=LOCAL, ranks="rank"))
    for _ in range(3):
        w, a, b = factors(state.params)
        expected = w + mean_product(problem, w, [cut(a, b, rank) for rank in RANKS])
        state, _ = built.run(state, 1)
        now = factors(state.params)
        np.testing.assert_allclose(now[0], expected, atol=1e-12)
        assert not now[2].any() and not np.any(now[1] == a)
    fresh = np.concatenate([factors(built.run(built.init(problem.params, seed=seed), 1)[0].params)[1].ravel() for seed in range(40)])
    assert abs(fresh.mean()) < 0.1 and abs(fresh.std() - 0.5) < 0.06


def test_flexlora_keeps_the_best_matrix_of_its_rank():
    problem = Regression()
    built, state = begin(problem, A.flexlora(problem.loss, client_optimizer=SGD, local=LOCAL, ranks="rank"))
    for _ in range(3):
        w, a, b = factors(state.params)
        product = mean_product(problem, w, [cut(a, b, rank) for rank in RANKS])
        state, _ = built.run(state, 1)
        kept, a, b = factors(state.params)
        np.testing.assert_array_equal(kept, w)
        tail = np.linalg.svd(product, compute_uv=False)
        for rank in range(RANK + 1):
            left, right = cut(a, b, rank)
            np.testing.assert_allclose(np.linalg.norm(product - left @ right), np.linalg.norm(tail[rank:]), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "expected"), [(A.fedex_lora, np.eye(2) / 2), (A.flora, np.eye(2) / 2), (A.fedavg, np.ones((2, 2)) / 4), (A.flexlora, None)]
)
def test_two_clients_that_learn_different_directions(make, expected):
    """The published example: factors (1, 0)' (1, 0) and (0, 1)' (0, 1), here by one step of plain descent from their own places."""
    directions = np.eye(2)[:, :, None]
    population = fe.data.Population.from_arrays({"own": directions}, [0, 1, 2])
    params = {"kernel": np.zeros((2, 2)), "lora": {"corrections": {"0": {"a": np.zeros((2, 1)), "b": np.zeros((1, 2))}}}}

    def loss(params, batch, key):
        factors = params["lora"]["corrections"]["0"]
        gaps = [factors["a"][None] - batch["own"], jnp.swapaxes(factors["b"][None] - jnp.swapaxes(batch["own"], 1, 2), 1, 2)]
        return sum(0.5 * jnp.sum(gap**2, axis=(1, 2)) for gap in gaps)

    algorithm = make(loss, client_optimizer=optax.sgd(1.0), local=fe.LocalTraining(steps=1))
    modules = fe.modules.assign(params, shared="lora", frozen="kernel")
    everyone, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    built = fe.Engine(population, algorithm, cohort=everyone, aggregator=mean, modules=modules)
    state, _ = built.run(built.init(params), 1)
    w, a, b = factors(state.params)
    if expected is None:
        np.testing.assert_allclose(np.linalg.norm(np.eye(2) / 2 - w - a @ b), 0.5, atol=1e-12)
    else:
        np.testing.assert_allclose(w + a @ b, expected, atol=1e-12)


def test_nobody_leaves_everything():
    problem = Regression()
    for make in (A.fedex_lora, A.flora, A.flexlora):
        modules = fe.modules.assign(problem.params, shared="lora", frozen="kernel")
        nobody = problem.population().holding({"lora": np.zeros(len(SIZES), bool)})
        algorithm = make(problem.loss, client_optimizer=SGD, local=LOCAL)
        built = fe.Engine(nobody, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), modules=modules)
        state, _ = built.run(built.init(problem.params), 2)
        assert identical(state.params, jax.tree.map(jnp.asarray, problem.params))


def test_models_without_what_is_averaged():
    problem = Regression()
    algorithm = A.flexlora(problem.loss, client_optimizer=SGD, local=LOCAL)
    with pytest.raises(fe.errors.ArgumentError, match="freeze the kernels"):
        begin(problem, algorithm, shared=["lora", "kernel"], frozen=None)
    with pytest.raises(fe.errors.ArgumentError, match="share low-rank matrices"):
        begin(problem, algorithm, shared="kernel", frozen="lora")
