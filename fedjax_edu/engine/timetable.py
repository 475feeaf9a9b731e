"""When every device's clients train: what lets devices that share a model walk through their queues in step.

Where a model is split over devices, a local step, and what is done with a client's update, may hold collectives. The compiler is free to
write some of them (a collective-permute) for all devices of the mesh at once, and such a one waits for ever if a device runs its loop less
often than the others. How long each client trains is known before a round, so each device is told every queue's timetable first,
and all of them take each loop and each branch equally often; a device with less to do takes its turns without effect.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Timetable(NamedTuple):
    """Ticks at which clients enter each phase and, last, leave; of all devices, int32 [devices, Q, phases + 1], -1 for who is absent."""

    times: jax.Array

    @property
    def ticks(self) -> jax.Array:
        """Ticks of the longest queue."""
        return jnp.max(self.times[..., -1], initial=0)

    def busy(self, tick: jax.Array, phase: int) -> jax.Array:
        """Whether any client takes a step of this phase in this tick."""
        return jnp.any((self.times[..., phase] <= tick) & (tick < self.times[..., phase + 1]))

    def entering(self, tick: jax.Array) -> jax.Array:
        """The most clients of one device that enter another phase with this tick."""
        return self._most(self.times[..., 1:-1] == tick)

    def leaving(self, tick: jax.Array) -> jax.Array:
        """The most clients of one device that leave with this tick."""
        return self._most(self.times[..., -1:] == tick)

    def _most(self, here: jax.Array) -> jax.Array:
        return jnp.max(jnp.sum(here, axis=(1, 2), dtype=jnp.int32))


def timetable(steps: jax.Array, count: jax.Array, lanes: int) -> jax.Array:
    """The timetable of one device's queue: a client takes the lane that is free first, and each phase at least one tick.

    Args:
        steps: int32 [Q, phases], in the order in which clients are taken.
        count: int32 scalar, clients that are present; they stand first.
        lanes: how many train at the same time.

    Returns:
        int32 [Q, phases + 1].

    >>> timetable(jnp.array([[3], [2], [2], [1]]), jnp.int32(3), 2).tolist()
    [[0, 3], [0, 2], [2, 4], [-1, -1]]
    """

    def take(free: jax.Array, client: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        number, steps = client
        lane = jnp.argmin(free)
        times = free[lane] + jnp.pad(jnp.cumsum(jnp.maximum(steps, 1), dtype=jnp.int32), (1, 0))
        present = number < count
        return jnp.where(present, free.at[lane].set(times[-1]), free), jnp.where(present, times, -1)

    return jax.lax.scan(take, jnp.zeros(lanes, jnp.int32), (jnp.arange(len(steps), dtype=jnp.int32), steps))[1]
