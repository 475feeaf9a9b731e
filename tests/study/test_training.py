"""What is trained and what is not, and estimates against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_edu.study.objective import task_losses
from fedjax_edu.study.schools import prepare
from fedjax_edu.study.training import Trained, Trainer
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
    arrays = trainer.data.train.population.arrays
    batch = {name: jnp.asarray(values[:8]) for name, values in arrays.items()}
    poisoned = batch | {"targets": jnp.where(batch["present"] > 0, batch["targets"], 1e3)}
    assert not np.array_equal(batch["targets"], poisoned["targets"])
    losses = [trainer.loss(trainer.params, rows, jax.random.key(0)).per_example for rows in (batch, poisoned)]
    np.testing.assert_array_equal(*losses)


def test_shared_modules_move_and_are_all_that_is_sent(trainer):
    engine, state = trainer.federation()
    after, info = engine.run(state, rounds=2)
    for part in ("encoders", "heads"):
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params[part], after.params[part])
        assert all(jax.tree.leaves(moved)), moved
    sent = sum(leaf.size * 4 for part in ("encoders", "heads") for leaf in jax.tree.leaves(state.params[part]))
    assert info.bytes_up.tolist() == [trainer.config.cohort * sent] * 2


def test_effects_move_at_their_own_rate_in_schools_that_took_part_and_stay_there(trainer):
    rate = 1e-6
    federated = dataclasses.replace(trainer.config.federated, effects_learning_rate=rate)
    engine, state = Trainer(trainer.data, dataclasses.replace(trainer.config, federated=federated)).federation()
    (cohort,), _ = engine.schedule(state, 1)
    after, _ = engine.run(state, rounds=1)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(after.params["effects"]))  # what a school never seen has
    own = jax.tree.leaves(after.clients)
    assert len(own) == 3  # intercepts, slopes, classrooms
    for leaf in own:
        moved = np.flatnonzero(np.any(np.asarray(leaf).reshape(len(leaf), -1) != 0, axis=1))
        np.testing.assert_array_equal(moved, np.sort(cohort))
        assert np.abs(leaf).max() < 100 * rate


def test_effects_without_a_learning_rate_stay_at_zero(trainer):
    federated = dataclasses.replace(trainer.config.federated, effects_learning_rate=0.0)
    engine, state = Trainer(trainer.data, dataclasses.replace(trainer.config, federated=federated)).federation()
    after, _ = engine.run(state, rounds=1)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(after.params["effects"]))
    assert not jax.tree.leaves(after.clients)


def test_personalisation_finds_the_best_linear_unbiased_prediction(trainer):
    """Each school's effects minimise its loss plus penalty: for scores the ridge solution, computed here in NumPy."""
    steps = dataclasses.replace(trainer.config.effects, steps=600, batch_size=64)  # one batch holds a whole school
    patient = Trainer(trainer.data, dataclasses.replace(trainer.config, effects=steps))
    engine, state = patient.federation()
    shared = Trained(engine, state, patient.predict).outputs(patient.data.train)
    found = patient.personalised(state.params).outputs(patient.data.train)
    arrays, school = patient.data.train.population.arrays, patient.data.train.school
    for one in np.unique(school):
        rows = school == one
        rooms = np.eye(patient.data.classrooms)[arrays["classroom"][rows]]
        design = np.concatenate([np.ones((rows.sum(), 1)), arrays["inputs"][rows], rooms], axis=1)
        for position, (task, prior) in enumerate(zip(TASKS, patient.config.of_tasks(TASKS), strict=True)):
            seen = arrays["present"][rows, position] > 0
            if task.binary or not seen.any():
                continue
            strength = np.r_[prior.intercept, [prior.slopes] * arrays["inputs"].shape[1], [prior.classrooms] * patient.data.classrooms]
            left = (arrays["targets"][rows, position] - shared[rows, position])[seen]
            effects = np.linalg.solve(design[seen].T @ design[seen] + np.diag(strength), design[seen].T @ left)
            expected = shared[rows, position] + design @ effects
            np.testing.assert_allclose(found[rows, position], expected, atol=5e-3)


def test_a_school_that_took_no_part_has_the_federation_alone(trainer):
    engine, state = trainer.federation()
    shared = Trained(engine, state, trainer.predict).outputs(trainer.data.held_out)
    np.testing.assert_allclose(trainer.personalised(state.params).outputs(trainer.data.held_out), shared, rtol=1e-5, atol=1e-6)


def test_local_only_is_gradient_descent_in_every_school(population, config):
    """One epoch of one batch a school is one step of clipped SGD with decay from the common start, replayed with plain JAX."""
    once = dataclasses.replace(config.local_only, epochs=1, batch_size=64, clip=0.5)
    trainer = Trainer(prepare(population, 1, 0), dataclasses.replace(config, local_only=once))
    train = trainer.data.train
    found = trainer.local_only().outputs(train)
    optimizer = optax.chain(optax.add_decayed_weights(once.weight_decay), optax.sgd(once.learning_rate))

    def objective(params, batch):
        loss = trainer.loss(params, batch, jax.random.key(0))
        return loss.per_example.mean() + loss.regulariser

    for position in (0, train.population.num_clients - 1):
        batch = {name: jnp.asarray(values) for name, values in train.population.client(position).items()}
        gradient = jax.grad(objective)(trainer.params, batch)
        norm = np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]))
        assert norm > once.clip
        gradient = jax.tree.map(lambda leaf, norm=norm: leaf * (once.clip / norm), gradient)
        updates, _ = optimizer.update(gradient, optimizer.init(trainer.params), trainer.params)
        expected = trainer.predict(optax.apply_updates(trainer.params, updates), batch)
        rows = train.population.row_clients == position
        np.testing.assert_allclose(found[rows], expected, rtol=1e-3, atol=1e-4)


def test_pooled_training_knows_no_school(trainer):
    pooled = trainer.pooled()
    assert pooled.engine.population.num_clients == 1
    assert pooled.engine.population.num_examples == trainer.data.train.population.num_examples
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(pooled.state.params["effects"]))
