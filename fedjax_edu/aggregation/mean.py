"""The weighted mean over the cohort."""

from fedjax_edu.core.link import Link


def mean() -> Link:
    r"""Weighted mean of the clients' values, module by module.

    :math:`\bar\Delta_m = \sum_k \omega_{km} \Delta_{km} / \sum_k \omega_{km}`. Sums travel with their weights and the
    algorithm divides them once; a module whose weights sum to 0 keeps its value.

    >>> mean().needs
    'sum'

    Reference: McMahan et al. (2017), arXiv:1602.05629.
    """
    return Link(
        name="mean",
        place="reduce",
        sensitivity=lambda bound: bound,
        needs="sum",
        stack=lambda server, stacks, key: (server, {name: stack.sum() for name, stack in stacks.items()}),
    )
