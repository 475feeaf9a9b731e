"""What is trained and what is not, and estimates against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_edu.study.networks.ensemble import task_losses
from fedjax_edu.study.schools import prepare
from fedjax_edu.study.training import Trainer
from tests.study.small import TASKS


@pytest.fixture(scope="module")
def trainer(population, config):
    return Trainer(prepare(population, 1, 0), config)


def test_losses_are_half_squares_and_cross_entropies():
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(6, 3, 4)), rng.normal(size=(6, 4))
    targets[:, 3] = rng.integers(0, 2, 6)
    found = np.asarray(task_losses(TASKS, jnp.asarray(outputs, jnp.float32), jnp.asarray(targets, jnp.float32)))
    np.testing.assert_allclose(found[:, :3], (0.5 * (outputs[:, :, :3] - targets[:, None, :3]) ** 2).mean(axis=1), rtol=1e-4)
    probability = 1 / (1 + np.exp(-outputs[:, :, 3]))
    yes = targets[:, None, 3]
    entropy = -(yes * np.log(probability) + (1 - yes) * np.log(1 - probability))
    np.testing.assert_allclose(found[:, 3], entropy.mean(axis=1), rtol=1e-4)


def test_an_absent_target_counts_for_nothing(trainer):
    arrays = trainer.rows(trainer.data.train).arrays
    batch = {name: jnp.asarray(values[:8]) for name, values in arrays.items()}
    poisoned = batch | {"targets": jnp.where(batch["present"] > 0, batch["targets"], 1e3)}
    assert not np.array_equal(batch["targets"], poisoned["targets"])
    losses = [trainer.loss(trainer.network.params, rows, jax.random.key(0)).per_example for rows in (batch, poisoned)]
    np.testing.assert_array_equal(*losses)


def test_shared_modules_move_and_are_all_that_is_sent(trainer):
    engine, state = trainer.federation()
    after, info = engine.run(state, rounds=2)
    for part in ("encoders", "heads"):
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params[part], after.params[part])
        assert all(jax.tree.leaves(moved)), moved
    sent = sum(leaf.size * 4 for part in ("encoders", "heads") for leaf in jax.tree.leaves(state.params[part]))
    assert info.bytes_up.tolist() == [trainer.config.cohort * sent] * 2


def test_local_only_is_gradient_descent_in_every_school(population, config):
    """One epoch of one batch a school is one step of clipped SGD with decay from the common start, replayed with plain JAX."""
    once = dataclasses.replace(config.local_only, epochs=1, batch_size=64, clip=0.1)
    trainer = Trainer(prepare(population, 1, 0), dataclasses.replace(config, local_only=once))
    train = trainer.data.train
    found = trainer.local_only().outputs(train)
    optimizer = optax.chain(optax.add_decayed_weights(once.weight_decay), optax.sgd(once.learning_rate))

    start = trainer.network.params

    def objective(params, batch):
        loss = trainer.loss(params, batch, jax.random.key(0))
        return loss.per_example.mean()

    for position in (0, train.population.num_clients - 1):
        batch = {name: jnp.asarray(values) for name, values in trainer.rows(train).client(position).items()}
        gradient = jax.grad(objective)(start, batch)
        norm = np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]))
        assert norm > once.clip
        gradient = jax.tree.map(lambda leaf, norm=norm: leaf * (once.clip / norm), gradient)
        updates, _ = optimizer.update(gradient, optimizer.init(start), start)
        expected = trainer.network.predict(optax.apply_updates(start, updates), batch)
        rows = train.population.row_clients == position
        np.testing.assert_allclose(found[rows], expected, rtol=1e-3, atol=1e-4)


def test_pooled_training_knows_no_school(trainer):
    pooled = trainer.pooled()
    assert pooled.engine.population.num_clients == 1
    assert pooled.engine.population.num_examples == trainer.data.train.population.num_examples
