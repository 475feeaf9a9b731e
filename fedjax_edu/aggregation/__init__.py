"""What happens between client and server: chains of links."""

from fedjax_edu.aggregation import attacks
from fedjax_edu.aggregation.centered_clip import centered_clip
from fedjax_edu.aggregation.cka_graph import cka_graph
from fedjax_edu.aggregation.clip import clip
from fedjax_edu.aggregation.fltrust import fltrust
from fedjax_edu.aggregation.geometric_median import geometric_median
from fedjax_edu.aggregation.krum import krum, multi_krum
from fedjax_edu.aggregation.mean import mean
from fedjax_edu.aggregation.median import median, trimmed_mean
from fedjax_edu.aggregation.quantise import quantise
from fedjax_edu.aggregation.randk import randk
from fedjax_edu.aggregation.sign import sign
from fedjax_edu.aggregation.topk import topk
from fedjax_edu.core.chain import Chain, chain

__all__ = [
    "Chain",
    "attacks",
    "centered_clip",
    "chain",
    "cka_graph",
    "clip",
    "fltrust",
    "geometric_median",
    "krum",
    "mean",
    "median",
    "multi_krum",
    "quantise",
    "randk",
    "sign",
    "topk",
    "trimmed_mean",
]
