"""Speech and other sound: a token for a few frames of a log-mel spectrogram."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.encoders.features import waves
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report, Transformer, TransformerConfig

QUIETEST = 1e-10  # power below which the logarithm says the same


def mel_filters(rate: int, window: int, bins: int) -> np.ndarray:
    r"""Triangles on the mel scale, equally spaced from 0 to half the sampling rate, each of area 1 Hz.

    .. math:: \mathrm{mel}(f) = 3 f / 200 \text{ below 1 kHz}, \qquad 15 + 27 \, \log_{6.4}(f / 1000) \text{ above}

    Args:
        rate: samples a second.
        window: samples of a frame.
        bins: triangles.

    Returns:
        float64 [window // 2 + 1, bins].

    Reference: Slaney (1998), "Auditory Toolbox", Interval Research Technical Report 1998-010.
    """
    top = 15 + 27 * np.log(rate / 2 / 1000) / np.log(6.4) if rate > 2000 else 3 * rate / 2 / 200
    mels = np.linspace(0, top, bins + 2)
    edges = np.where(mels < 15, 200 * mels / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    frequencies = np.linspace(0, rate / 2, window // 2 + 1)[:, None]
    lower, middle, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((frequencies - lower) / (middle - lower), (upper - frequencies) / (upper - middle))
    return np.maximum(triangles, 0) * 2 / (upper - lower)


def log_mel(samples: jax.Array, *, rate: int = 16_000, window: int = 400, hop: int = 160, bins: int = 80) -> jax.Array:
    r"""Log-mel spectrogram: :math:`\log \max(M \, |\mathrm{DFT}(w \cdot x)|^2, 10^{-10})`, w Hann's window.

    Args:
        samples: float [..., samples].
        rate: samples a second.
        window: samples of a frame.
        hop: samples from one frame to the next.
        bins: mel bins.

    Returns:
        float [..., frames, bins], ``1 + (samples - window) // hop`` frames, none beyond the end.

    Raises:
        ArgumentError: fewer samples than a frame has.
    """
    if samples.shape[-1] < window:
        raise ArgumentError("samples", samples.shape, f"pass at least the {window} samples of a frame")
    frames = 1 + (samples.shape[-1] - window) // hop
    pieces = samples[..., np.arange(frames)[:, None] * hop + np.arange(window)]
    hann = np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window), np.float32)
    power = jnp.abs(jnp.fft.rfft(pieces * hann.reshape((1,) * (pieces.ndim - 1) + (-1,)))) ** 2
    return jnp.log(jnp.maximum(power @ np.asarray(mel_filters(rate, window, bins), np.float32), QUIETEST))


class AudioEncoder(nnx.Module):
    """A log-mel spectrogram from -1 (silence) to 1 (a power of one), cut into patches of a few frames, with waves of their place; then a
    transformer.

    Args:
        width: of tokens.
        config: of the transformer.
        patch: frames of a token.
        rate: samples a second.
        window: samples of a frame.
        hop: samples from one frame to the next.
        bins: mel bins.
        rngs: source of the starting values.

    Reference: Gong et al. (2021), arXiv:2104.01778, with patches of all bins.
    """

    def __init__(
        self,
        width: int,
        config: TransformerConfig,
        *,
        patch: int = 4,
        rate: int = 16_000,
        window: int = 400,
        hop: int = 160,
        bins: int = 80,
        rngs: nnx.Rngs,
    ):
        self.width, self.patch, self.rate, self.window, self.hop, self.bins = width, patch, rate, window, hop, bins
        self.project = Linear(patch * bins, width, rngs=rngs)
        self.transformer = Transformer(width, config, rngs=rngs)

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, frames / patch, D], and what experts say; frames that fill no patch are left out.

        Args:
            values: float [B, samples], about -1 to 1.
            present: bool [B].
            lengths: int [B], samples of each recording; None: all.
        """
        count = values.shape[1]
        heard = jnp.full(len(values), count, jnp.int32) if lengths is None else lengths
        samples = where_present(token_mask(present, heard, count), values)
        frames = 1 - 2 * log_mel(samples, rate=self.rate, window=self.window, hop=self.hop, bins=self.bins) / np.log(QUIETEST)
        patches = frames.shape[1] // self.patch
        whole = jnp.maximum(heard - self.window + self.hop, 0) // self.hop // self.patch  # patches before the end of the recording
        mask = token_mask(present, whole, patches)
        cut = rearrange(frames[:, : patches * self.patch], "b (t i) f -> b t (i f)", i=self.patch)
        places = jnp.arange(patches, dtype=values.dtype)[None]
        tokens = self.project(where_present(mask, cut)) + waves(places, self.width)
        return self.transformer(Tokens.masked(tokens, mask))
