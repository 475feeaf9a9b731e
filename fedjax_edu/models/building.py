"""A multi-modal multi-task model from a description of its modalities and tasks, in five sizes."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models import heads
from fedjax_edu.models.corrections import add_low_rank
from fedjax_edu.models.encoders.audio import AudioEncoder
from fedjax_edu.models.encoders.features import FeaturesEncoder
from fedjax_edu.models.encoders.image import ImageEncoder
from fedjax_edu.models.encoders.phrases import PhraseEncoder
from fedjax_edu.models.encoders.sentences import SentenceEncoder
from fedjax_edu.models.encoders.sequence import SequenceEncoder
from fedjax_edu.models.encoders.tabular import TabularEncoder
from fedjax_edu.models.encoders.text import TextConfig, TextEncoder
from fedjax_edu.models.fusion.transformer import TransformerFusion
from fedjax_edu.models.multimodal import M3T
from fedjax_edu.models.transformer import TransformerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model is.

    Attributes:
        width: of tokens.
        encoders: of every modality's transformer.
        fusion: of the transformer over all tokens.
    """

    width: int
    encoders: TransformerConfig
    fusion: TransformerConfig


def _size(width: int, heads: int, encoder_layers: int, fusion_layers: int, experts: int) -> Size:
    return Size(
        width=width,
        encoders=TransformerConfig(layers=encoder_layers, heads=heads),
        fusion=TransformerConfig(layers=fusion_layers, heads=heads, experts=experts),
    )


SIZES = {
    "tiny": _size(64, 4, 1, 2, 4),
    "small": _size(192, 6, 2, 3, 4),
    "base": _size(512, 8, 3, 5, 4),
    "large": _size(768, 12, 3, 7, 6),
    "xl": _size(1024, 16, 6, 8, 8),
}


class Part(Protocol):
    """A modality or a task, as far as a model has to know it."""

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder or its head."""
        ...


@dataclasses.dataclass(frozen=True)
class Tabular:
    """Records; see :class:`fedjax_edu.models.TabularEncoder`.

    Attributes:
        levels: of each feature; 0 for a number.
    """

    levels: tuple[int, ...]

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        return TabularEncoder(self.levels, size.width, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Sequence:
    """Histories of answers; see :class:`fedjax_edu.models.SequenceEncoder`.

    Attributes:
        items: how many there are.
        steps: of the longest history.
    """

    items: int
    steps: int

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        return SequenceEncoder(self.items, self.steps, size.width, size.encoders, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Text:
    """Word pieces; see :class:`fedjax_edu.models.TextEncoder`.

    Attributes:
        vocabulary: word pieces there are.
        steps: word pieces of the longest text.
    """

    vocabulary: int = 30_522
    steps: int = 512

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        layers, heads, hidden = size.encoders.layers, size.encoders.heads, round(size.encoders.hidden * size.width)
        config = TextConfig(vocabulary=self.vocabulary, positions=self.steps, width=size.width, layers=layers, heads=heads, hidden=hidden)
        return TextEncoder(config, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Texts as word pieces of an encoder with published weights, which stay as they are; see :class:`fedjax_edu.models.SentenceEncoder`.

    Attributes:
        source: of the weights, as for :meth:`fedjax_edu.models.TextEncoder.from_pretrained`.
        rank: of low-rank matrices, which are trained, beside all of its linear layers; 0: none.
    """

    source: str
    rank: int = 0

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        language = TextEncoder.from_pretrained(self.source)
        if self.rank:
            add_low_rank(language, lambda path: True, rank=self.rank, seed=rngs.params())
        return SentenceEncoder(language, size.width, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Phrases:
    """Texts as words and phrases, which heads read beside the transformer; see :class:`fedjax_edu.models.PhraseEncoder`.

    Attributes:
        buckets: numbers that there are for phrases.
        rank: width of what is learned of each; as many as there are tasks, or more.
        gain: how fast they learn.
    """

    buckets: int
    rank: int = 4
    gain: float = 30.0

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        return PhraseEncoder(self.buckets, size.width, rank=self.rank, gain=self.gain, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Image:
    """Images, float [rows, height, width, channels] about between -1 and 1; see :class:`fedjax_edu.models.ImageEncoder`.

    Attributes:
        height: pixels.
        width: pixels.
        channels: of a pixel.
        patch: side of a patch, pixels.
    """

    height: int
    width: int
    channels: int
    patch: int

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        shape = self.height, self.width, self.channels
        return ImageEncoder(*shape, patch=self.patch, tokens=size.width, config=size.encoders, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Audio:
    """Sound; see :class:`fedjax_edu.models.AudioEncoder`.

    Attributes:
        patch: frames of a token.
        rate: samples a second.
    """

    patch: int = 4
    rate: int = 16_000

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder, with frames of 25 ms every 10 ms."""
        return AudioEncoder(
            size.width, size.encoders, patch=self.patch, rate=self.rate, window=self.rate // 40, hop=self.rate // 100, rngs=rngs
        )


@dataclasses.dataclass(frozen=True)
class Features:
    """Embeddings with times; see :class:`fedjax_edu.models.FeaturesEncoder`.

    Attributes:
        inputs: width of the embeddings.
    """

    inputs: int

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its encoder."""
        return FeaturesEncoder(self.inputs, size.width, size.encoders, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Binary:
    """Yes or no."""

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its head."""
        return heads.BinaryHead(size.width, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Regression:
    """A number."""

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its head."""
        return heads.RegressionHead(size.width, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Categorical:
    """One of several classes.

    Attributes:
        classes: how many.
    """

    classes: int

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its head."""
        return heads.CategoricalHead(size.width, self.classes, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Ordinal:
    """One of several levels in order.

    Attributes:
        levels: how many.
    """

    levels: int

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its head."""
        return heads.OrdinalHead(size.width, self.levels, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class NextResponse:
    """Whether the next answer of a history is right.

    Attributes:
        items: how many there are.
    """

    items: int

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its head."""
        return heads.NextResponseHead(size.width, self.items, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """An order of the rows of a group."""

    def build(self, size: Size, rngs: nnx.Rngs) -> nnx.Module:
        """Its head."""
        return heads.RankingHead(size.width, rngs=rngs)


def m3t(modalities: Mapping[str, Part], tasks: Mapping[str, Part], size: str | Size = "tiny", seed: int = 0) -> M3T:
    """A model with an encoder for each modality, a transformer over all tokens with experts, and a head for each task.

    Args:
        modalities: name -> what it is.
        tasks: name -> what it is.
        size: a name in :data:`SIZES`, or sizes of one's own.
        seed: of the starting values.

    Raises:
        ArgumentError: no modality, no task, or an unknown size.

    >>> model = m3t({"tabular": Tabular((0, 0, 3))}, {"passed": Binary(), "score": Regression()})
    >>> sorted(model.heads)
    ['passed', 'score']
    """
    if not modalities or not tasks:
        raise ArgumentError("modalities, tasks", (sorted(modalities), sorted(tasks)), "name one of each at least")
    if isinstance(size, str):
        if size not in SIZES:
            raise ArgumentError("size", size, f"use {', '.join(SIZES)}, or a Size")
        size = SIZES[size]
    rngs = nnx.Rngs(seed)
    encoders = {name: part.build(size, rngs) for name, part in modalities.items()}
    wide = [name for name, part in modalities.items() if isinstance(part, Phrases)]
    fusion = TransformerFusion([name for name in modalities if name not in wide], size.width, size.fusion, rngs=rngs, wide=wide)
    return M3T(encoders, fusion, {name: part.build(size, rngs) for name, part in tasks.items()})
