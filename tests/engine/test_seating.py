"""Where clients sit, against plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.engine.cohorts.sampler import Draw
from fedjax_edu.engine.resident import Resident
from fedjax_edu.engine.seating import Seating, seat, seating

CLIENTS = 24
RANDOM = np.random.default_rng(3)
SIZES = RANDOM.integers(0, 9, CLIENTS).astype(np.int32)
RESIDENT = Resident(
    arrays=None,
    first=jnp.asarray(np.cumsum(SIZES) - SIZES, jnp.int32),
    examples=jnp.asarray(SIZES),
    ids=jnp.asarray(RANDOM.permutation(CLIENTS) + 100, jnp.uint32),
    attributes={},
    steps=(jnp.asarray(SIZES)[:, None],),
    holds={},
)


def drawn(clients, present):
    return Draw(jnp.asarray(clients, jnp.int32), jnp.asarray(present), jnp.array(False), jnp.arange(len(clients), dtype=jnp.int32), {})


@pytest.mark.parametrize("hosted", [None, 24, 12, 6, 5])
@pytest.mark.parametrize("cohort", [1, 7, 24])
def test_everybody_present_has_one_seat(hosted, cohort):
    devices = 4 if hosted is None else -(-CLIENTS // hosted)
    plan = Seating(devices, hosted)
    clients = RANDOM.permutation(CLIENTS)[:cohort]
    present = RANDOM.random(cohort) < 0.8
    seats = seat(drawn(clients, present), RESIDENT, plan)
    width = plan.width(cohort)
    assert len(seats.clients) == devices * width
    here = np.asarray(seats.present)
    assert sorted(np.asarray(seats.clients)[here]) == sorted(clients[present & (SIZES[clients] > 0)])
    origin = np.asarray(seats.origin)[here]
    np.testing.assert_array_equal(clients[origin], np.asarray(seats.clients)[here])
    np.testing.assert_array_equal(np.asarray(seats.staleness)[here], origin)
    np.testing.assert_array_equal(seats.first, RESIDENT.first[seats.clients])
    if hosted is not None:
        device = np.repeat(np.arange(devices), width)[here]
        np.testing.assert_array_equal(np.asarray(seats.clients)[here], device * hosted + np.asarray(seats.slot)[here])
        assert (np.asarray(seats.slot) < hosted).all()


def test_absent_ones_take_nobodys_seat():
    """A draw may fill up with one client many times; those who are present have their seats at home all the same."""
    clients, present = np.array([0, 0, 0, 0, 5, 1, 4]), np.array([False] * 4 + [True] * 3)
    sizes = jnp.full(CLIENTS, 3, jnp.int32)
    seats = seat(drawn(clients, present), RESIDENT._replace(examples=sizes), Seating(4, 6))
    assert sorted(np.asarray(seats.clients)[np.asarray(seats.present)]) == [1, 4, 5]


def test_without_homes_devices_have_about_the_same_work():
    seats = seat(drawn(np.arange(CLIENTS), np.ones(CLIENTS, bool)), RESIDENT, Seating(3, None))
    work = SIZES[np.asarray(seats.clients)].reshape(3, -1).sum(1)
    assert np.ptp(work) <= SIZES.max()


@pytest.mark.parametrize(
    ("states", "clients", "on_host", "hosted"),
    [((), 16, False, None), (jnp.ones(16), 16, False, 4), (jnp.ones(17), 17, False, None), (jnp.ones(17), 17, True, 5)],
)
def test_who_has_a_home(states, clients, on_host, hosted):
    assert seating(states, clients, 4, on_host) == Seating(4, hosted)
