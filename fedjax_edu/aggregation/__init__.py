"""What happens between client and server: chains of links."""

from fedjax_edu.aggregation.clip import clip
from fedjax_edu.aggregation.mean import mean
from fedjax_edu.core.chain import Chain, chain

__all__ = ["Chain", "chain", "clip", "mean"]
