"""Texts as sequences of word pieces, in the architecture of BERT, so that published weights fit."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.attention import Attention
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import FeedForward, Report

if TYPE_CHECKING:
    from fedjax_edu.models.pretrained.tokenizing import WordPieces

TOGETHER = 64  # texts of about the same length that are embedded in one call


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of a text encoder, the defaults those of MiniLM-L6-H384.

    Attributes:
        vocabulary: word pieces.
        positions: word pieces of the longest text.
        types: kinds of segments; all word pieces are of the first kind.
        width: of tokens.
        layers: attention and feed-forward network, so many times.
        heads: of the attention.
        hidden: width of the feed-forward networks.
        epsilon: added to the variance in a normalisation.
    """

    vocabulary: int = 30_522
    positions: int = 512
    types: int = 2
    width: int = 384
    layers: int = 6
    heads: int = 12
    hidden: int = 1536
    epsilon: float = 1e-12


class TextLayer(nnx.Module):
    """N(x + A(x)), then N(h + F(h)): normalised after each part.

    Args:
        config: sizes.
        rngs: source of the starting values.
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.attention = Attention(config.width, config.heads, rngs=rngs)
        self.feed_forward = FeedForward(config.width, config.hidden, rngs=rngs)
        self.after_attention, self.after_feed_forward = (nnx.LayerNorm(config.width, epsilon=config.epsilon, rngs=rngs) for _ in range(2))

    def __call__(self, tokens: Tokens) -> Tokens:
        """Tokens -> tokens."""
        values = self.after_attention(tokens.values + self.attention(tokens))
        return Tokens(self.after_feed_forward(values + self.feed_forward(values)), tokens.mask)


class TextEncoder(nnx.Module):
    """Word pieces to tokens: embeddings of the piece, its place and its segment, then layers of BERT.

    Args:
        config: sizes.
        rngs: source of the starting values.
        pieces: what cuts texts into word pieces; only :meth:`embed` needs it.

    Reference: Devlin et al. (2018), arXiv:1810.04805; Wang et al. (2020), arXiv:2002.10957 for MiniLM.
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, pieces: "WordPieces | None" = None):
        def table(rows: int) -> nnx.Param[jax.Array]:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), (rows, config.width)))

        self.words, self.positions, self.types = table(config.vocabulary), table(config.positions), table(config.types)
        self.first = nnx.LayerNorm(config.width, epsilon=config.epsilon, rngs=rngs)
        self.layers = nnx.List([TextLayer(config, rngs=rngs) for _ in range(config.layers)])
        self.config, self.pieces = config, pieces

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens of texts [B, T, D]; there are no experts to report of.

        Args:
            values: int [B, T], numbers of word pieces.
            present: bool [B], or [B, T].
            lengths: int [B], word pieces of each text; None: T.

        Raises:
            ArgumentError: more word pieces than there are places.
        """
        steps = values.shape[1]
        if steps > self.config.positions:
            raise ArgumentError("values", values.shape, f"cut texts to {self.config.positions} word pieces")
        mask = token_mask(present, lengths, steps)
        embedded = self.words[...][where_present(mask, values)] + self.positions[...][None, :steps] + self.types[...][None, :1]
        tokens = Tokens(self.first(embedded), mask)
        for layer in self.layers:
            tokens = layer(tokens)
        return Tokens.masked(*tokens), {}

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """A text encoder with published weights.

        Args:
            source: ``"minilm"`` (extra ``pretrained``), or a folder with ``model.safetensors``, ``config.json`` and ``tokenizer.json`` of
                a model of the BERT family.

        Raises:
            ArgumentError: neither.
            DataError: a file or a tensor that is missing, cut off, of another shape, or too many.
        """
        from fedjax_edu.models.pretrained.bert import load

        config, params, pieces = load(source)
        model = nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0)))
        model.pieces = pieces
        for path, variable in model.variables().items():
            variable.set_value(jnp.asarray(params[path]))
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes ``model.safetensors``, ``config.json`` and ``tokenizer.json``, for other libraries and for :meth:`from_pretrained`.

        Low-rank matrices and adapters are not part of it; :func:`fedjax_edu.models.save_low_rank` writes the former.

        Args:
            folder: is made.

        Raises:
            MissingDependencyError: safetensors is missing.
        """
        from fedjax_edu.models.pretrained.bert import save

        save(self, folder)

    def variables(self) -> dict[str, nnx.Variable[Any]]:
        """The encoder's own parameters by dotted path, without what was added to its layers."""
        flat = nnx.to_flat_state(nnx.state(self, nnx.Param))
        return {".".join(map(str, path)): variable for path, variable in flat if type(variable) is nnx.Param}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts: the mean of a text's tokens, divided by its norm.

        Texts longer than the tokenizer's limit are cut.

        Args:
            texts: in any script, also empty ones.

        Returns:
            float32 [texts, width].

        Raises:
            ArgumentError: a single string, or something else than strings; an encoder without a tokenizer.
        """
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise ArgumentError("texts", texts, "pass a list of strings")
        texts = list(texts)
        if not all(isinstance(text, str) for text in texts):
            raise ArgumentError("texts", texts, "pass a list of strings")
        if self.pieces is None:
            raise ArgumentError("pieces", None, "load the encoder with from_pretrained, or give it a tokenizer")
        embedded = np.zeros((len(texts), self.config.width), np.float32)
        for rows, numbers, lengths in self.pieces.batches(texts, TOGETHER):
            embedded[rows] = np.asarray(_unit_means(self, numbers, lengths))[: len(rows)]
        return embedded


@nnx.jit
def _unit_means(encoder: TextEncoder, numbers: Any, lengths: Any) -> jax.Array:
    tokens, _ = encoder(numbers, jnp.ones(len(numbers), bool), lengths)
    means = tokens.mean()
    return means / jnp.linalg.norm(means, axis=1, keepdims=True)
