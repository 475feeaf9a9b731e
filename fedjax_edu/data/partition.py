"""Partitions of one central data set into clients: uniform, skewed in labels, skewed in size, or by a natural key.

Every function returns ``(population, statistics)``; each row of the data set goes to exactly one client, and inside a client rows keep
their order. Equal seeds give equal partitions. See Hsu, Qi and Brown (2019, arXiv:1909.06335) and Li, Diao, Chen and He
(2021, arXiv:2102.02079) for what such partitions stand for and what they do not.
"""

import dataclasses
import heapq
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer, check_positive
from fedjax_edu.data import validation
from fedjax_edu.data.population import Population
from fedjax_edu.data.summary import size_quantiles

_MAX_DRAWS = 1000  # how often a draw is repeated to reach the minimum size before it counts as hopeless


@dataclasses.dataclass(frozen=True, eq=False)
class PartitionStatistics:
    """How rows and labels are spread over clients.

    Attributes:
        sizes: rows of each client, int64 [clients].
        labels: the distinct labels, sorted, [classes]; None where the partition was made without labels.
        histograms: rows of each client with each label, int64 [clients, classes]; None without labels.
        keys: the key of each client, [clients]; only from :func:`natural`.
    """

    sizes: np.ndarray
    labels: np.ndarray | None = None
    histograms: np.ndarray | None = None
    keys: np.ndarray | None = None

    @property
    def size_quantiles(self) -> dict[str, float]:
        """Minimum, quartiles and maximum of the sizes."""
        return size_quantiles(self.sizes)

    @property
    def label_entropy(self) -> np.ndarray:
        """Entropy of the labels of each client in nats, [clients]; NaN for a client without rows."""
        shares = self._label_shares()
        return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)

    @property
    def total_variation(self) -> np.ndarray:
        """Distance of each client's labels from those of everyone, ½ Σ|p - q| in [0, 1], [clients]; NaN for a client without rows."""
        shares = self._label_shares()
        everyone = np.nansum(shares * self.sizes[:, None], axis=0) / self.sizes.sum()
        return 0.5 * np.abs(shares - everyone).sum(axis=1)

    def _label_shares(self) -> np.ndarray:
        if self.histograms is None:
            raise ArgumentError("labels", None, "pass labels when making the partition to get statistics of them")
        return np.where(self.sizes[:, None] > 0, self.histograms / np.maximum(self.sizes, 1)[:, None], np.nan)


def iid(
    arrays: Any, clients: int, *, seed: int, labels: Any = None, allow_nonfinite: Iterable[str] = ()
) -> tuple[Population, PartitionStatistics]:
    """Rows dealt at random to clients of equal size (to one row).

    Args:
        arrays: pytree of arrays [N, ...].
        clients: how many clients.
        seed: non-negative integer.
        labels: leaf or array [N] for the statistics; it does not change the partition.
        allow_nonfinite: as in :meth:`Population.from_arrays`.

    >>> population, statistics = iid({"x": np.zeros((10, 2))}, clients=4, seed=0)
    >>> statistics.sizes
    array([3, 3, 2, 2])
    """
    whole, clients, rng = _prepare(arrays, clients, seed, allow_nonfinite)
    sizes = _shares_of(whole.num_examples, np.ones(clients))
    return _dealt(whole, _owners_at_random(sizes, rng), clients, labels)


def dirichlet(
    arrays: Any, labels: Any, clients: int, *, alpha: float, seed: int, min_size: int = 0, allow_nonfinite: Iterable[str] = ()
) -> tuple[Population, PartitionStatistics]:
    r"""Label skew: the rows of every label are shared out to the clients by a Dirichlet draw.

    For each label :math:`c`, independently, :math:`p_c \sim \mathrm{Dir}_K(\alpha, \dots, \alpha)` and client :math:`k` gets the
    share :math:`p_{ck}` of its rows, so :math:`E[p_{ck}] = 1/K` and
    :math:`\mathrm{Var}[p_{ck}] = \frac{(1/K)(1 - 1/K)}{K\alpha + 1}`. A small alpha gives few labels a client, a large one equal shares.

    Args:
        arrays: pytree of arrays [N, ...].
        labels: leaf or array [N] of integers, booleans or strings.
        clients: how many clients, K.
        alpha: concentration, positive.
        seed: non-negative integer.
        min_size: draw again until every client has this many rows. This conditions the draw: large values weaken the skew.
        allow_nonfinite: as in :meth:`Population.from_arrays`.

    Raises:
        ArgumentError: when 1000 draws do not reach ``min_size``.

    Reference:
        Yurochkin et al. (2019, arXiv:1905.12022); Li et al. (2021, arXiv:2102.02079) add the minimum size.

    >>> population, statistics = dirichlet({"x": np.zeros(100)}, np.arange(100) % 2, clients=3, alpha=0.5, seed=0)
    >>> statistics.histograms.sum(axis=0)
    array([50, 50])
    """
    whole, clients, rng = _prepare(arrays, clients, seed, allow_nonfinite)
    alpha = check_positive("alpha", alpha)
    min_size = check_integer("min_size", min_size, at_least=0)
    _, label = _classes(whole, labels)
    counts = np.bincount(label)
    for _ in range(_MAX_DRAWS if min_size * clients <= whole.num_examples else 0):
        shares = rng.dirichlet(np.full(clients, alpha), size=len(counts))
        cuts = np.rint(np.cumsum(shares, axis=1) * counts[:, None]).astype(np.int64)
        cuts[:, -1] = counts
        quotas = np.diff(cuts, axis=1, prepend=0)
        if quotas.sum(axis=0).min() >= min_size:
            owners = _deal_labels(label, [np.repeat(np.arange(clients), quota) for quota in quotas], rng)
            return _dealt(whole, owners, clients, labels)
    raise ArgumentError("min_size", min_size, f"use fewer clients than {clients}, a larger alpha than {alpha}, or a smaller min_size")


def shards(
    arrays: Any, labels: Any, clients: int, *, shards_per_client: int = 2, seed: int, allow_nonfinite: Iterable[str] = ()
) -> tuple[Population, PartitionStatistics]:
    """Label skew: each client gets a few shards, each of one label, so it sees at most ``shards_per_client`` labels.

    McMahan et al. (2017, arXiv:1602.05629) cut the rows sorted by label into equal shards, some of which hold two labels. Here every
    label is cut into a whole number of shards, in proportion to its rows (D'Hondt, at least one), so that the bound is exact.

    Args:
        arrays: pytree of arrays [N, ...].
        labels: leaf or array [N] of integers, booleans or strings.
        clients: how many clients.
        shards_per_client: how many shards each client gets, and the most labels it can see.
        seed: non-negative integer.
        allow_nonfinite: as in :meth:`Population.from_arrays`.

    Raises:
        ArgumentError: when there are fewer shards than labels or more than rows.

    >>> population, statistics = shards({"x": np.zeros(100)}, np.arange(100) % 10, clients=10, seed=0)
    >>> bool((statistics.histograms > 0).sum(axis=1).max() <= 2)
    True
    """
    whole, clients, rng = _prepare(arrays, clients, seed, allow_nonfinite)
    per_client = check_integer("shards_per_client", shards_per_client)
    classes, label = _classes(whole, labels)
    total = clients * per_client
    if not len(classes) <= total <= whole.num_examples:
        remedy = (
            f"make clients x shards_per_client ({total}) at least the labels ({len(classes)}) and at most the rows ({whole.num_examples})"
        )
        raise ArgumentError("shards_per_client", per_client, remedy)
    counts = np.bincount(label)
    number = _apportion(counts, total)
    shard_owner = rng.permutation(np.repeat(np.arange(clients), per_client))
    runs = np.split(shard_owner, np.cumsum(number)[:-1])
    sequences = [np.repeat(run, _shares_of(int(count), np.ones(len(run)))) for run, count in zip(runs, counts, strict=True)]
    return _dealt(whole, _deal_labels(label, sequences, rng), clients, labels)


def lognormal_sizes(
    arrays: Any, clients: int, *, sigma: float, seed: int, labels: Any = None, min_size: int = 1, allow_nonfinite: Iterable[str] = ()
) -> tuple[Population, PartitionStatistics]:
    """Quantity skew: client sizes are proportional to log-normal draws, exp(sigma z) with z standard normal; rows are dealt at random.

    Args:
        arrays: pytree of arrays [N, ...].
        clients: how many clients.
        sigma: standard deviation of the logarithm of the sizes, positive (schools: about 0.3 to 0.7).
        seed: non-negative integer.
        labels: leaf or array [N] for the statistics; it does not change the partition.
        min_size: rows every client gets before the rest is shared out.
        allow_nonfinite: as in :meth:`Population.from_arrays`.

    >>> lognormal_sizes({"x": np.zeros(100)}, clients=4, sigma=1.0, seed=0)[1].sizes.sum()
    np.int64(100)
    """
    whole, clients, rng = _prepare(arrays, clients, seed, allow_nonfinite)
    weights = np.exp(check_positive("sigma", sigma) * rng.standard_normal(clients))
    return _dealt(whole, _owners_at_random(_skewed_sizes(whole, weights, min_size), rng), clients, labels)


def zipf_sizes(
    arrays: Any, clients: int, *, exponent: float, seed: int, labels: Any = None, min_size: int = 1, allow_nonfinite: Iterable[str] = ()
) -> tuple[Population, PartitionStatistics]:
    """Quantity skew: the size of the client of rank r is proportional to r ** -exponent; ranks and rows are dealt at random.

    Args:
        arrays: pytree of arrays [N, ...].
        clients: how many clients.
        exponent: slope of the logarithm of the size over the logarithm of the rank, positive.
        seed: non-negative integer.
        labels: leaf or array [N] for the statistics; it does not change the partition.
        min_size: rows every client gets before the rest is shared out.
        allow_nonfinite: as in :meth:`Population.from_arrays`.

    >>> sorted(zipf_sizes({"x": np.zeros(25)}, clients=4, exponent=1.0, seed=0, min_size=0)[1].sizes.tolist())
    [3, 4, 6, 12]
    """
    whole, clients, rng = _prepare(arrays, clients, seed, allow_nonfinite)
    weights = rng.permutation(np.arange(1, clients + 1) ** -check_positive("exponent", exponent))
    return _dealt(whole, _owners_at_random(_skewed_sizes(whole, weights, min_size), rng), clients, labels)


def natural(arrays: Any, key: Any, *, labels: Any = None, allow_nonfinite: Iterable[str] = ()) -> tuple[Population, PartitionStatistics]:
    """One client for each value of a key, such as the school: clients sorted by key, whatever the order of the rows.

    Integer keys from 0 to 2**32 - 2 are the ids of their clients, so an id does not depend on which other clients exist. Other keys are
    numbered in sorted order. ``statistics.keys`` names the key of each client.

    Args:
        arrays: pytree of arrays [N, ...].
        key: leaf or array [N] of integers, strings or dates.
        labels: leaf or array [N] for the statistics.
        allow_nonfinite: as in :meth:`Population.from_arrays`.

    >>> population, statistics = natural({"x": np.arange(3)}, np.array(["west", "east", "west"]))
    >>> statistics.keys.tolist(), population.client(1)["x"].tolist()
    (['east', 'west'], [0, 2])
    """
    whole = _whole(arrays, allow_nonfinite)
    if whole.num_examples == 0:
        raise ArgumentError("arrays", "no rows", "pass at least one row, so that there is a client")
    keys, owners = np.unique(_values(whole, "key", key), return_inverse=True)
    are_ids = np.issubdtype(keys.dtype, np.integer) and keys[0] >= 0 and keys[-1] < validation.RESERVED_ID
    return _dealt(whole, owners, len(keys), labels, ids=keys if are_ids else None, keys=keys)


def _whole(arrays: Any, allow_nonfinite: Iterable[str]) -> Population:
    """The data set as one client: checks it, so that errors name rows as the caller counts them."""
    rows = next((len(leaf) for leaf in jax.tree.leaves(arrays) if np.ndim(leaf)), 0)
    return Population.from_arrays(arrays, [0, rows], allow_nonfinite=allow_nonfinite)


def _prepare(arrays: Any, clients: Any, seed: Any, allow_nonfinite: Iterable[str]) -> tuple[Population, int, np.random.Generator]:
    whole = _whole(arrays, allow_nonfinite)
    return whole, check_integer("clients", clients), np.random.default_rng(validation.check_seed(seed))


def _values(whole: Population, argument: str, key: Any) -> np.ndarray:
    return validation.row_values(argument, key, validation.leaves_by_name(whole.arrays), whole.num_examples)


def _classes(whole: Population, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """The distinct labels, sorted, and the number of each row's label."""
    values = _values(whole, "labels", labels)
    if values.dtype.kind not in "biuUS":
        raise ArgumentError("labels", f"dtype {values.dtype}", "use integers, booleans or strings; bin real targets first")
    return np.unique(values, return_inverse=True)


def _shares_of(total: int, weights: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to weights, with the given sum: the largest remainders, then the earliest, get one more."""
    exact = total * weights / weights.sum()
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares


def _skewed_sizes(whole: Population, weights: np.ndarray, min_size: Any) -> np.ndarray:
    min_size = check_integer("min_size", min_size, at_least=0)
    spare = whole.num_examples - min_size * len(weights)
    if spare < 0:
        raise ArgumentError("min_size", min_size, f"{whole.num_examples} rows allow {whole.num_examples // len(weights)} a client at most")
    return min_size + _shares_of(spare, weights)


def _owners_at_random(sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))


def _deal_labels(label: np.ndarray, sequences: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The owner of each row: the rows of label c, in random order, go to the owners in ``sequences[c]``."""
    shuffled = rng.permutation(len(label))
    owners = np.empty(len(label), np.int64)
    owners[shuffled[np.argsort(label[shuffled], kind="stable")]] = np.concatenate(sequences)
    return owners


def _apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """How many of ``total`` shards each label gets: one each, then always to the label with most rows a shard (D'Hondt)."""
    number = np.ones(len(counts), np.int64)
    queue = [(-count / 2, position) for position, count in enumerate(counts)]
    heapq.heapify(queue)
    for _ in range(total - len(counts)):
        _, position = queue[0]
        number[position] += 1
        heapq.heapreplace(queue, (-counts[position] / (number[position] + 1), position))
    return number


def _dealt(
    whole: Population, owners: np.ndarray, clients: int, labels: Any, *, ids: np.ndarray | None = None, keys: np.ndarray | None = None
) -> tuple[Population, PartitionStatistics]:
    order = np.argsort(owners, kind="stable")
    sizes = np.bincount(owners, minlength=clients)
    arrays = jax.tree.map(lambda leaf: leaf[order], whole.arrays)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    population = Population.from_arrays(arrays, offsets, ids=ids, allow_nonfinite=whole.allow_nonfinite)
    if labels is None:
        return population, PartitionStatistics(sizes, keys=keys)
    classes, label = _classes(whole, labels)
    histograms = np.bincount(owners * len(classes) + label, minlength=clients * len(classes)).reshape(clients, len(classes))
    return population, PartitionStatistics(sizes, classes, histograms, keys)
