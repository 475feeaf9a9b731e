"""A population on the device: its arrays, or those of the clients of the next rounds, and one table row for each client."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_edu.core.algorithm import ClientInfo, Stage
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.engine import processes


class Resident(NamedTuple):
    """Device arrays of a population, replicated over the mesh; an argument of compiled programs, never a constant.

    Args:
        arrays: leaves [at least N, ...]; the last rows belong to nobody. None where rows are fed chunk by chunk.
        first: int32 [clients], first row of each client.
        examples: int32 [clients].
        ids: uint32 [clients].
        attributes: leaves [clients, ...].
        steps: for each stage int32 [clients, phases].
        holds: float32 [clients] by module, what clients' parts in it are multiplied by; 1 for modules that are not named.
    """

    arrays: Tree
    first: jax.Array
    examples: jax.Array
    ids: jax.Array
    attributes: dict[str, jax.Array]
    steps: tuple[jax.Array, ...]
    holds: dict[str, jax.Array]

    def infos(self, clients: jax.Array, staleness: jax.Array, stage: int, phases: int, modules: Modules) -> ClientInfo:
        """What algorithms may know of these `clients` (int32 [K]), whose parameters have this `staleness` (int32 [K]); leaves [K, ...]."""
        holds = {name: holders[clients] for name, holders in self.holds.items()}
        return ClientInfo(
            id=self.ids[clients],
            examples=self.examples[clients],
            steps=self.steps[stage][clients, :phases],
            share=modules.shares(holds, clients.shape),
            attributes={name: value[clients] for name, value in self.attributes.items()},
            position=clients.astype(jnp.int32),
            staleness=staleness,
        )


class Feed(NamedTuple):
    """What a chunk of rounds needs of its clients alone.

    Args:
        arrays: leaves [devices * R, ...]; each device holds the rows of the clients that sit on it.
        first: int32 [length, seats], where a seat's client begins among the R rows of its device.
        slots: int32 [length, seats], the row of its client among the states that its device is lent; None where devices keep them.
    """

    arrays: Tree
    first: jax.Array
    slots: jax.Array | None


def place(population: Population, stages: tuple[Stage, ...], mesh: Mesh, with_rows: bool) -> Resident:
    """Copies a population to the devices, with the local steps of every client in every phase of the stages.

    The number of rows is rounded up by at most a thirty-second, so that populations of about the same size, the splits of a
    study under different seeds for one, run the same compiled program.
    """
    sizes = population.sizes
    steps = tuple(np.stack([phase.data.steps_of(sizes) for phase in stage.phases], 1).astype(np.int32) for stage in stages)
    attributes = {name: value for name, value in population.attributes.items() if value.dtype.kind in "biuf"}
    table = (
        np.minimum(population.offsets[:-1], 2**31 - 1).astype(np.int32),
        sizes.astype(np.int32),
        population.ids,
        attributes,
        steps,
        dict(population.holds),
    )
    missing = rounded_up(population.num_examples) - population.num_examples
    arrays = jax.tree.map(lambda leaf: filled(leaf, missing), population.arrays) if with_rows else None
    return Resident(*processes.put((arrays, *table), NamedSharding(mesh, PartitionSpec())))


def rounded_up(count: int) -> int:
    """A count rounded up by at most a thirty-second, the same for counts that are about the same.

    >>> rounded_up(58_987), rounded_up(59_088), rounded_up(20)
    (59392, 59392, 20)
    """
    unit = max(1, 2 ** (count.bit_length() - 6))
    return -(-count // unit) * unit


def filled(leaf: np.ndarray, rows: int) -> np.ndarray:
    """A leaf with rows of zeros at its end."""
    return np.concatenate([leaf, np.zeros((rows, *leaf.shape[1:]), leaf.dtype)]) if rows else leaf
