"""The networks that a study can train."""

import dataclasses

from fedjax_edu.study.config import EnsembleConfig, M3TConfig
from fedjax_edu.study.encoding import Encoding
from fedjax_edu.study.networks.ensemble import Ensemble
from fedjax_edu.study.networks.m3t import MultiModal
from fedjax_edu.study.networks.network import Network

NETWORKS: dict[str, type[Network]] = {"ensemble": Ensemble, "m3t": MultiModal}  # by the names that exported models have for them

__all__ = ["NETWORKS", "Ensemble", "MultiModal", "Network", "make_network"]


def make_network(encoding: Encoding, config: EnsembleConfig | M3TConfig, seed: int) -> Network:
    """The network that a configuration describes.

    Args:
        encoding: schema and scales of the table.
        config: its sizes.
        seed: of its starting values.
    """
    kind = Ensemble if isinstance(config, EnsembleConfig) else MultiModal
    return kind(encoding, dataclasses.asdict(config), seed)
