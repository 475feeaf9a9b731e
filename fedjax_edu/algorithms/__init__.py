"""Federated algorithms, one file each."""

from fedjax_edu.algorithms.fedavg import fedavg

__all__ = ["fedavg"]
