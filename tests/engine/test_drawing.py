"""Batches: every epoch visits every row once, and nothing but a client's own key and size decides the order."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.core.local import FullPass, LocalTraining
from fedjax_edu.engine.drawing import batch_size, draw

LONGEST = 23
SIZES = (1, 2, 3, 5, 8, 13, LONGEST)


@partial(jax.jit, static_argnums=(0, 2, 4))
def _grid(data, keys, phase, examples, longest, steps):
    over_steps = jax.vmap(lambda key, step, count: draw(data, key, phase, step, count, longest), (None, 0, None))
    return jax.vmap(over_steps, (0, None, 0))(keys, steps, examples)


def drawn(data, examples, *, phase: int = 0, steps: int = 24, longest: int = LONGEST, keys=None) -> tuple[np.ndarray, np.ndarray]:
    """(rows, valid), each [clients, steps, B], of clients with so many `examples`."""
    keys = jax.random.split(jax.random.key(0), len(examples)) if keys is None else keys
    rows, valid = _grid(data, keys, phase, jnp.array(examples, jnp.int32), longest, jnp.arange(steps))
    return np.asarray(rows), np.asarray(valid)


def epochs(data, examples: int, rows: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
    """Rows [steps, B] of one client, padding left out, cut where an epoch ends."""
    per_epoch = int(LocalTraining(epochs=1, batch_size=data.batch_size).steps_of(np.array([examples]))[0])
    return [rows[at : at + per_epoch][valid[at : at + per_epoch]] for at in range(0, len(rows) - per_epoch + 1, per_epoch)]


@pytest.mark.parametrize("size", [1, 4, 5, 23, 40, None])
def test_each_epoch_visits_each_row_exactly_once(size):
    data = LocalTraining(epochs=1, batch_size=size)
    for examples, rows, valid in zip(SIZES, *drawn(data, SIZES), strict=True):
        found = epochs(data, examples, rows, valid)
        assert found
        for epoch in found:
            assert sorted(epoch.tolist()) == list(range(examples))


@pytest.mark.parametrize("size", [1, 4, 40, None])
def test_every_batch_is_full_but_the_last_and_its_padding_belongs_to_the_client(size):
    data = LocalTraining(epochs=1, batch_size=size)
    width = size or LONGEST
    for examples, rows, valid in zip(SIZES, *drawn(data, SIZES), strict=True):
        assert rows.shape == valid.shape == (24, width)
        assert rows.min() >= 0
        assert rows.max() < examples
        per_epoch = -(-examples // width)
        for step, mask in enumerate(valid):
            count = examples - (per_epoch - 1) * width if step % per_epoch == per_epoch - 1 else width
            assert mask.tolist() == [True] * count + [False] * (width - count)


def test_a_whole_client_batch_holds_the_longest_client():
    assert batch_size(LocalTraining(epochs=1), 17) == 17
    assert batch_size(LocalTraining(epochs=1, batch_size=4), 17) == 4
    assert batch_size(FullPass(), 0) == 1


def test_steps_beyond_an_epoch_begin_a_fresh_one():
    data = LocalTraining(epochs=1, batch_size=5)
    for examples, rows, valid in zip(SIZES, *drawn(data, SIZES), strict=True):
        found = epochs(data, examples, rows, valid)
        assert len(found) == 24 // -(-examples // 5)
        if examples >= 8:
            assert len({tuple(epoch.tolist()) for epoch in found}) == len(found)


@pytest.mark.parametrize("data", [LocalTraining(epochs=2, batch_size=4, shuffle=False), FullPass(batch_size=4)])
def test_without_shuffle_rows_come_as_stored(data):
    for examples, rows, valid in zip(SIZES, *drawn(data, SIZES), strict=True):
        for epoch in epochs(data, examples, rows, valid):
            assert epoch.tolist() == list(range(examples))


def test_a_client_without_examples_has_no_valid_row():
    rows, valid = drawn(LocalTraining(epochs=1, batch_size=4), (0,) * len(SIZES))
    assert not valid.any()
    assert not rows.any()


def test_orders_are_uniform_over_clients_and_epochs():
    keys, data = jax.random.split(jax.random.key(1), 2000), LocalTraining(epochs=1, batch_size=3)
    rows, _ = drawn(data, (3,) * 2000, steps=3, keys=keys)
    codes = (rows @ np.array([9, 3, 1])).ravel()
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 6 * np.sqrt(1000 * 5 / 6)  # six standard deviations
    first, second = codes.reshape(-1, 3)[:, 0], codes.reshape(-1, 3)[:, 1]
    assert abs((first == second).mean() - 1 / 6) < 6 * np.sqrt(5 / 36 / 2000)


def test_phases_and_rounds_draw_independently():
    data, keys = LocalTraining(epochs=1, batch_size=4), jax.random.split(jax.random.key(2), 50)
    first, _ = drawn(data, (23,) * 50, steps=6, keys=keys)
    other_phase, _ = drawn(data, (23,) * 50, steps=6, keys=keys, phase=1)
    other_round, _ = drawn(data, (23,) * 50, steps=6, keys=jax.random.split(jax.random.key(3), 50))
    again, _ = drawn(data, (23,) * 50, steps=6, keys=keys)
    np.testing.assert_array_equal(first, again)
    for other in (other_phase, other_round):
        assert abs((first == other)[:, :5].mean() - 1 / 23) < 6 * np.sqrt(1 / 23 / 1000)


def test_the_order_of_one_client_depends_on_nothing_else():
    data, keys = LocalTraining(epochs=1, batch_size=4), jax.random.split(jax.random.key(9), len(SIZES))
    expected = drawn(data, SIZES, keys=keys)
    others = jax.random.split(jax.random.key(10), len(SIZES))
    for position, size in enumerate(SIZES):
        sizes = [*SIZES[::-1]]
        sizes[position] = size
        for found, wanted in zip(drawn(data, sizes, keys=others.at[position].set(keys[position])), expected, strict=True):
            np.testing.assert_array_equal(found[position], wanted[position])


def test_the_longest_client_only_adds_padding():
    data, keys = LocalTraining(epochs=1), jax.random.split(jax.random.key(0), len(SIZES))
    rows, valid = drawn(data, SIZES, keys=keys)
    wide_rows, wide_valid = drawn(data, SIZES, keys=keys, longest=40)
    np.testing.assert_array_equal(wide_rows[..., :LONGEST], rows)
    np.testing.assert_array_equal(wide_valid[..., :LONGEST], valid)
    assert not wide_valid[..., LONGEST:].any()


def test_batches_of_any_size_cut_the_same_order():
    firsts = []
    for size in (1, 4, 23):
        data = LocalTraining(epochs=1, batch_size=size)
        drawn_of_each = zip(SIZES, *drawn(data, SIZES), strict=True)
        firsts.append([epochs(data, examples, rows, valid)[0].tolist() for examples, rows, valid in drawn_of_each])
    assert firsts[0] == firsts[1] == firsts[2]
