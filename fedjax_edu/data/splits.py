"""Which side of a split each client or row goes to, as plain arrays; :class:`Population` offers them as methods.

A side takes its fraction of a sequence of items (clients, rows, students, moments): an item of weight *w* that spans
``[start, start + w)`` of a total *n* goes to side *s* when its middle lies in ``(F[s-1] n, F[s] n]`` with *F* the cumulated fractions.
That is rounding to the nearest item, for one cut or many, for items of any weight.
"""

import numpy as np


def client_sides(ids: np.ndarray, fractions: np.ndarray, seed: int) -> np.ndarray:
    """The side of each client: a random order of the sorted ids, cut by the fractions. Returns int [clients]."""
    order = np.argsort(ids)
    rank = np.empty(len(ids))
    rank[order] = np.random.default_rng(seed).permutation(len(ids))
    return _side_of(rank + 0.5, np.array(len(ids)), fractions)


def random_sides(clients: np.ndarray, ids: np.ndarray, fractions: np.ndarray, seed: int, units: np.ndarray | None = None) -> np.ndarray:
    """The side of each row, by :func:`random_places`; fractions [sides], of the rows of each client, or of its units."""
    place, total = random_places(clients, ids, seed, units)
    return _side_of(place + 0.5, total, fractions)


def random_places(clients: np.ndarray, ids: np.ndarray, seed: int, units: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Where each row stands in a random order of its client's rows, drawn from ``default_rng([seed, id])``, and how many those are, [N].

    Args:
        clients: position of the client of each row, sorted, int [N].
        ids: id of each client, [clients].
        seed: non-negative integer.
        units: to whom each row belongs, [N]; None makes every row a unit. Units stand in the order, and are counted, instead of rows;
            one that several clients have belongs to the one where it has most rows.
    """
    if units is None:
        return _draw_inside(clients, ids, seed)
    unit, home = _homes(clients, ids, units)
    order = np.argsort(home, kind="stable")  # units of one client stand together, in order of their value
    place, total = np.empty((2, len(home)), np.int64)
    place[order], total[order] = _draw_inside(home[order], ids, seed)
    return place[unit], total[unit]


def timed_sides(
    clients: np.ndarray, ids: np.ndarray, fractions: np.ndarray, times: np.ndarray, units: np.ndarray | None = None
) -> np.ndarray:
    """The side of each row such that, inside each client, each side is strictly earlier than the next, and no unit has two sides.

    Rows of one client and time are one moment. Moments that cannot be separated (a unit is present at both, or at an earlier and at a
    later one) form a block, the strongly connected components of the graph "this moment is not after that one"; blocks go to sides whole.
    Where clients that share units disagree, rows move to the later side.

    Args:
        clients: position of the client of each row, sorted, int [N].
        ids: id of each client, [clients]; unused but for its length.
        fractions: of the rows of each client, in order of time, [sides].
        times: when each row was made, [N].
        units: to whom each row belongs, [N]; None makes every row a unit.
    """
    _, rank = np.unique(times, return_inverse=True)
    span = int(rank.max(initial=0)) + 1
    moments, moment = np.unique(clients.astype(np.int64) * span + rank, return_inverse=True)
    owner = moments // span
    weight = np.bincount(moment, minlength=len(moments))
    block = np.arange(len(moments)) if units is None else _blocks(owner, moment, units)
    middle = _block_middles(owner, block, weight)
    side = _side_of(middle, np.bincount(owner, weight, minlength=len(ids))[owner], fractions)
    return _without_conflicts(side, owner, block)[moment]


def _side_of(middle: np.ndarray, total: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    cuts = np.cumsum(fractions)[:-1]
    return (middle[:, None] > cuts * total[..., None]).sum(axis=1)


def _draw_inside(clients: np.ndarray, ids: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.bincount(clients, minlength=len(ids))
    places = [np.random.default_rng([seed, int(id_)]).permutation(size) for id_, size in zip(ids, sizes, strict=True) if size]
    return np.concatenate([np.zeros(0, np.int64), *places]), sizes[clients]


def _homes(clients: np.ndarray, ids: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's unit, and the client where each unit has most rows (the lowest id among equals)."""
    values, unit = np.unique(units, return_inverse=True)
    pairs, rows = np.unique(unit * np.int64(len(ids)) + clients, return_counts=True)
    pair_unit, pair_client = pairs // len(ids), pairs % len(ids)
    order = np.lexsort((ids[pair_client], -rows, pair_unit))
    first = np.searchsorted(pair_unit[order], np.arange(len(values)))
    return unit, pair_client[order][first]


def _blocks(owner: np.ndarray, moment: np.ndarray, units: np.ndarray) -> np.ndarray:
    """The block of each moment: which moments must share a side because of the units present at them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    values, unit = np.unique(units, return_inverse=True)
    following = np.flatnonzero(owner[1:] == owner[:-1])  # a moment may not come after the next one of its client
    sources = np.concatenate([following, moment, len(owner) + unit])
    targets = np.concatenate([following + 1, len(owner) + unit, moment])
    nodes = len(owner) + len(values)
    graph = coo_array((np.ones(len(sources), bool), (sources, targets)), shape=(nodes, nodes))
    return connected_components(graph, connection="strong")[1][: len(owner)]


def _block_middles(owner: np.ndarray, block: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Where the middle of each moment's block lies among the rows of its client; moments of a block stand together in a client."""
    changes = (np.diff(owner, prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0)
    starts = np.flatnonzero(changes)
    rows = np.add.reduceat(weight, starts)
    ends = np.cumsum(rows)
    base = np.concatenate([[0], np.cumsum(weight)])[np.searchsorted(owner, owner[starts])]
    return np.repeat(ends - rows / 2 - base, np.diff(np.append(starts, len(owner))))


def _without_conflicts(side: np.ndarray, owner: np.ndarray, block: np.ndarray) -> np.ndarray:
    """The smallest sides, none below those given, that are equal inside blocks and never fall with time inside a client."""
    step = side.max(initial=0) + 1
    while True:
        latest = np.zeros(block.max(initial=0) + 1, np.int64)
        np.maximum.at(latest, block, side)
        raised = np.maximum.accumulate(latest[block] + owner * step) - owner * step
        if (raised == side).all():
            return side
        side = raised
