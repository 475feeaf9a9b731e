"""What a population looks like, in numbers a reader takes in at a glance."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


def size_quantiles(sizes: np.ndarray) -> dict[str, float]:
    """Minimum, quartiles and maximum of client sizes.

    >>> size_quantiles(np.array([1, 2, 3, 4, 10]))
    {'min': 1.0, 'q25': 2.0, 'median': 3.0, 'q75': 4.0, 'max': 10.0}
    """
    return dict(zip(("min", "q25", "median", "q75", "max"), np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class PopulationSummary:
    """The size and shape of a population; ``str`` gives a small table.

    Attributes:
        clients: how many clients.
        empty_clients: how many of them own no row.
        examples: how many rows.
        size_quantiles: of the client sizes in rows.
        leaves: dtype and shape of one row, by dotted path.
        attributes: dtype and shape of one client's value, by name.
    """

    clients: int
    empty_clients: int
    examples: int
    size_quantiles: dict[str, float]
    leaves: dict[str, str]
    attributes: dict[str, str]

    @property
    def headline(self) -> str:
        """The summary in one line."""
        leaves = ", ".join(f"{name} {kind}".strip() for name, kind in self.leaves.items())
        return f"Population({self.clients:,} clients, {self.examples:,} examples: {leaves})"

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {value:g}" for name, value in self.size_quantiles.items())
        lines = [
            f"clients     {self.clients:,}" + (f" ({self.empty_clients:,} without rows)" if self.empty_clients else ""),
            f"examples    {self.examples:,}",
            f"sizes       {sizes}",
        ]
        lines += [f"leaf        {name}: {kind}" for name, kind in self.leaves.items()]
        lines += [f"attribute   {name}: {kind}" for name, kind in self.attributes.items()]
        return "\n".join(lines)


def summarise(offsets: np.ndarray, leaves: Mapping[str, Any], attributes: Mapping[str, np.ndarray]) -> PopulationSummary:
    """The summary of a population given its parts; `leaves` are the shape and dtype of one row."""
    sizes = np.diff(offsets)
    return PopulationSummary(
        clients=len(sizes),
        empty_clients=int((sizes == 0).sum()),
        examples=int(offsets[-1]),
        size_quantiles=size_quantiles(sizes),
        leaves={name: _kind(leaf.dtype, leaf.shape) for name, leaf in leaves.items()},
        attributes={name: _kind(value.dtype, value.shape[1:]) for name, value in attributes.items()},
    )


def _kind(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]" if shape else str(dtype)
