"""Clients that lie: links that stand first in a chain and change what some clients send.

They come before every defence that the chain has in its client half, so that a clip clips what :func:`sign_flip`,
:func:`gaussian` and :func:`model_replacement` send. :func:`alie` and :func:`ipm` know what everybody else sends; they speak last, after
every client half, and do not clip themselves.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.aggregation import rows
from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.errors import ArgumentError, check_number, check_positive
from fedjax_edu.core.keys import fold
from fedjax_edu.core.link import Context, Link, Sent
from fedjax_edu.core.stack import Stack
from fedjax_edu.core.trees import Tree

Clients = Sequence[int] | np.ndarray
_LARGEST_ID = 2**32 - 2


def sign_flip(clients: Clients, scale: float = 1.0) -> Link:
    r"""Sends :math:`-s \Delta_k` in place of :math:`\Delta_k`, on every private channel.

    Args:
        clients: ids of those who lie.
        scale: s, positive.

    Raises:
        ArgumentError: bad ids, or (when the engine is built) ids that the population lacks; `scale` not positive.

    >>> sign_flip([3, 5]).place
    'attack'

    Reference: Li et al. (2019), "RSA: Byzantine-robust stochastic aggregation methods", arXiv:1811.03761.
    """
    scale = check_positive("scale", scale)
    return _alone("sign_flip", clients, lambda key, value: jax.tree.map(lambda leaf: -scale * leaf, value))


def gaussian(clients: Clients, std: float) -> Link:
    r"""Sends noise :math:`\mathcal{N}(0, \sigma^2 I)` in place of the update, on every private channel.

    Args:
        clients: ids of those who lie.
        std: :math:`\sigma`, positive, in the units of the parameters.

    Raises:
        ArgumentError: as for :func:`sign_flip`; `std` not positive.

    >>> gaussian([3], std=200.0).clients
    (3,)

    Reference: Blanchard et al. (2017), arXiv:1703.02757, who send noise of standard deviation 200.
    """
    std = check_positive("std", std)

    def noise(key: jax.Array, value: Tree) -> Tree:
        leaves, form = jax.tree.flatten(value)
        drawn = [std * jax.random.normal(fold(key, number), leaf.shape, leaf.dtype) for number, leaf in enumerate(leaves)]
        return jax.tree.unflatten(form, drawn)

    return _alone("gaussian", clients, noise)


def model_replacement(clients: Clients, factor: float) -> Link:
    r"""Sends :math:`\gamma \Delta_k`: as large that the mean over the cohort is the attacker's own model.

    Uniform weights over n clients of which one lies need :math:`\gamma = n / \eta` with the server's rate :math:`\eta`. What the
    clients learn is up to their data, see :func:`fedjax_edu.data.flip_labels`.

    Args:
        clients: ids of those who lie.
        factor: :math:`\gamma`, positive.

    Raises:
        ArgumentError: as for :func:`sign_flip`; `factor` not positive.

    >>> model_replacement([3], factor=10.0).needs
    'sum'

    Reference: Bagdasaryan et al. (2020), "How to backdoor federated learning", arXiv:1807.00459.
    """
    factor = check_positive("factor", factor)
    return _alone("model_replacement", clients, lambda key, value: jax.tree.map(lambda leaf: factor * leaf, value))


def alie(clients: Clients, deviations: float | None = None) -> Link:
    r"""A little is enough: all liars send :math:`\mu - z \sigma`, which hides among the honest.

    :math:`\mu` and :math:`\sigma` are mean and standard deviation, in each coordinate, of what the honest clients sent that hold the
    module. With n holders of whom f lie, :math:`z = \Phi^{-1}\!\left(\frac{n - f - s}{n - f}\right)` and
    :math:`s = \lfloor n/2 + 1 \rfloor - f`, the honest clients that liars need on their side for a majority. The fraction is kept half
    a client away from 0 and 1, where z is infinite. Without an honest holder, liars send what they trained.

    Args:
        clients: ids of those who lie.
        deviations: z; None computes it from those who are there.

    Raises:
        ArgumentError: as for :func:`sign_flip`; `deviations` not a finite number.

    >>> alie([3, 5], deviations=1.5).needs
    'stack'

    Reference: Baruch, Baruch, Goldberg (2019), "A little is enough: circumventing defenses for distributed learning",
    arXiv:1902.06156. We differ: liars know what the honest send, and need not estimate it.
    """
    z = None if deviations is None else check_number("deviations", deviations)

    def lie(updates: jax.Array, honest: jax.Array, liars: jax.Array) -> jax.Array:
        centre = rows.mean(updates, honest)
        spread = jnp.sqrt(rows.mean(jnp.square(updates - centre[None]), honest))
        return centre - (_hiding(jnp.sum(honest), liars) if z is None else z) * spread

    return _together("alie", clients, lie)


def ipm(clients: Clients, scale: float) -> Link:
    r"""Inner product manipulation: all liars send :math:`-\epsilon \mu`, with the mean :math:`\mu` of what the honest sent.

    The aggregate then points away from :math:`\mu` if the rule follows the liars. Honest clients are those that hold the module; all
    count alike. Without one, liars send what they trained.

    Args:
        clients: ids of those who lie.
        scale: :math:`\epsilon`, positive; below 1 it hides, above it shouts.

    Raises:
        ArgumentError: as for :func:`sign_flip`; `scale` not positive.

    >>> ipm([3], scale=0.5).needs
    'stack'

    Reference: Xie, Koyejo, Gupta (2020), "Fall of empires: breaking Byzantine-tolerant SGD by inner product manipulation",
    arXiv:1903.03936.
    """
    scale = check_positive("scale", scale)
    return _together("ipm", clients, lambda updates, honest, liars: -scale * rows.mean(updates, honest))


def _hiding(honest: jax.Array, liars: jax.Array) -> jax.Array:
    """How many deviations still hide `liars` among as many `honest` clients."""
    supporters = jnp.floor((honest + liars) / 2 + 1) - liars
    count = jnp.maximum(honest, 1)
    half = 0.5 / count
    return jax.scipy.stats.norm.ppf(jnp.clip((count - supporters) / count, half, 1 - half))


def _alone(name: str, clients: Clients, lie: Callable[[jax.Array, Tree], Tree]) -> Link:
    """An attack of each liar by itself: ``lie(key, value) -> value``."""
    ids = _checked(clients)

    def client(server: Any, state: Any, channels: dict[str, Channel], context: Context) -> Sent:
        lies, sent = jnp.isin(context.client.id, server), dict(channels)
        for number, (channel, honest) in enumerate(channels.items()):
            if honest.private:
                false = lie(fold(context.key, number), honest.value)
                sent[channel] = honest._replace(value=jax.tree.map(lambda new, old: jnp.where(lies, new, old), false, honest.value))
        return sent, state, {}

    return _attack(name, ids)._replace(client=client)


def _together(name: str, clients: Clients, lie: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> Link:
    """An attack of liars who know every update: ``lie(updates [C, d], honest 0 or 1 [C], number of liars) -> [d]``, module by module."""
    ids = _checked(clients)

    def stack(server: Any, stacks: dict[str, Stack], key: jax.Array) -> tuple[Any, dict[str, Stack]]:
        def speak(each: Stack) -> Stack:
            liar = jnp.isin(each.ids, server)

            def change(updates: jax.Array, weights: jax.Array) -> jax.Array:
                honest = ((weights > 0) & ~liar).astype(updates.dtype)
                liars = jnp.sum((weights > 0) & liar).astype(updates.dtype)
                false = lie(updates, honest, liars)
                return jnp.where((liar & (weights > 0) & jnp.any(honest > 0))[:, None], false[None], updates)

            return each.replace(change)

        return server, {channel: speak(each) for channel, each in stacks.items()}

    return _attack(name, ids)._replace(needs="stack", stack=stack)


def _attack(name: str, ids: tuple[int, ...]) -> Link:
    """A link that does nothing yet. Its state are the ids, so that attacks by others run the same compiled program."""
    return Link(
        name=name,
        place="attack",
        init_server=lambda params, meta: jnp.asarray(ids, jnp.uint32),
        sensitivity=lambda bound: math.inf,
        needs="sum",
        clients=ids,
    )


def _checked(clients: Any) -> tuple[int, ...]:
    """Ids of clients: at least one, each once."""
    try:
        ids = np.atleast_1d(np.asarray(clients))
    except ValueError:  # ragged
        ids = np.empty((0, 0))
    right = ids.ndim == 1 and ids.size > 0 and ids.dtype.kind in "iu"
    if not right or len(np.unique(ids)) < len(ids) or ids.min() < 0 or ids.max() > _LARGEST_ID:
        raise ArgumentError("clients", clients, "use distinct ids of clients, for instance population.ids[:3]")
    return tuple(ids.tolist())
