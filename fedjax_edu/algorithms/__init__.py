"""Federated algorithms, one file each."""

from fedjax_edu.algorithms.afl import afl
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.fedavgm import fedavgm
from fedjax_edu.algorithms.fedbuff import fedbuff
from fedjax_edu.algorithms.feddyn import feddyn
from fedjax_edu.algorithms.fednova import fednova
from fedjax_edu.algorithms.fedopt import fedadagrad, fedadam, fedyogi
from fedjax_edu.algorithms.fedprox import fedprox
from fedjax_edu.algorithms.ifca import ifca
from fedjax_edu.algorithms.mime import mime, mimelite
from fedjax_edu.algorithms.qffl import qffl
from fedjax_edu.algorithms.scaffold import scaffold
from fedjax_edu.algorithms.term import term

__all__ = [
    "afl",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "fedbuff",
    "feddyn",
    "fednova",
    "fedprox",
    "fedyogi",
    "ifca",
    "mime",
    "mimelite",
    "qffl",
    "scaffold",
    "term",
]
