"""What happens between client and server: chains of links."""

from fedjax_edu.aggregation.clip import clip
from fedjax_edu.aggregation.mean import mean
from fedjax_edu.aggregation.quantise import quantise
from fedjax_edu.aggregation.randk import randk
from fedjax_edu.aggregation.sign import sign
from fedjax_edu.aggregation.topk import topk
from fedjax_edu.core.chain import Chain, chain

__all__ = ["Chain", "chain", "clip", "mean", "quantise", "randk", "sign", "topk"]
