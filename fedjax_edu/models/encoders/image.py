"""Images: a token for each patch."""

import jax
from einops import rearrange
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report, Transformer, TransformerConfig


class ImageEncoder(nnx.Module):
    """Cuts images into square patches, projects each, adds a learned vector for its place, then a transformer.

    Args:
        height: of images, pixels.
        width: of images, pixels.
        channels: of a pixel.
        patch: side of a patch, pixels.
        tokens: width of tokens.
        config: of the transformer.
        rngs: source of the starting values.

    Raises:
        ArgumentError: patches that do not fill the image.

    Reference: Dosovitskiy et al. (2020), arXiv:2010.11929, without a class token: fusion has one for all modalities.
    """

    def __init__(self, height: int, width: int, channels: int, *, patch: int, tokens: int, config: TransformerConfig, rngs: nnx.Rngs):
        if height % patch or width % patch:
            raise ArgumentError("patch", patch, f"use a side that divides {height} and {width}")
        self.patch = patch
        self.project = Linear(patch * patch * channels, tokens, rngs=rngs)
        count = (height // patch) * (width // patch)
        self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (count, tokens)))
        self.transformer = Transformer(tokens, config, rngs=rngs)

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens of images [B, patches, D], row by row, and what experts say.

        Args:
            values: float [B, height, width, channels], about between -1 and 1: divide bytes by 255.
            present: bool [B], or [B, patches].
            lengths: int [B], patches of each image from the top; None: all.
        """
        patches = rearrange(values, "b (h i) (w j) c -> b (h w) (i j c)", i=self.patch, j=self.patch)
        mask = token_mask(present, lengths, patches.shape[1])
        tokens = self.project(where_present(mask, patches)) + self.places[...][None]
        return self.transformer(Tokens.masked(tokens, mask))
