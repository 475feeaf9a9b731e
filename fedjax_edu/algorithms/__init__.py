"""Federated algorithms, one file each."""

from fedjax_edu.algorithms.afl import afl
from fedjax_edu.algorithms.apfl import apfl
from fedjax_edu.algorithms.ditto import ditto
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.fedavgm import fedavgm
from fedjax_edu.algorithms.fedbuff import fedbuff
from fedjax_edu.algorithms.feddyn import feddyn
from fedjax_edu.algorithms.fedmsplit import fedmsplit
from fedjax_edu.algorithms.fednova import fednova
from fedjax_edu.algorithms.fedopt import fedadagrad, fedadam, fedyogi
from fedjax_edu.algorithms.fedprox import fedprox
from fedjax_edu.algorithms.fedrep import fedrep
from fedjax_edu.algorithms.heterofl import heterofl
from fedjax_edu.algorithms.hierarchy import hierarchy
from fedjax_edu.algorithms.ifca import ifca
from fedjax_edu.algorithms.low_rank import fedex_lora, flexlora, flora
from fedjax_edu.algorithms.mime import mime, mimelite
from fedjax_edu.algorithms.pfedme import pfedme
from fedjax_edu.algorithms.qffl import qffl
from fedjax_edu.algorithms.representations import with_representations
from fedjax_edu.algorithms.routed import with_routed_tokens
from fedjax_edu.algorithms.scaffold import scaffold
from fedjax_edu.algorithms.tap import Distillation, tap
from fedjax_edu.algorithms.term import term

__all__ = [
    "Distillation",
    "afl",
    "apfl",
    "ditto",
    "fedadagrad",
    "fedadam",
    "fedavg",
    "fedavgm",
    "fedbuff",
    "feddyn",
    "fedex_lora",
    "fedmsplit",
    "fednova",
    "fedprox",
    "fedrep",
    "fedyogi",
    "flexlora",
    "flora",
    "heterofl",
    "hierarchy",
    "ifca",
    "mime",
    "mimelite",
    "pfedme",
    "qffl",
    "scaffold",
    "tap",
    "term",
    "with_representations",
    "with_routed_tokens",
]
