"""Models and their parts, and how the engine sees them: a pure function and a tree of arrays."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedjax_edu.models.agreement import aligned_margin, contrastive_matching
    from fedjax_edu.models.attention import Attention
    from fedjax_edu.models.building import (
        Audio,
        Binary,
        Categorical,
        Features,
        Image,
        NextResponse,
        Ordinal,
        Phrases,
        Ranking,
        Regression,
        Sequence,
        Size,
        Tabular,
        Text,
        m3t,
    )
    from fedjax_edu.models.convolution import conv2d
    from fedjax_edu.models.corrections import add_adapters, add_low_rank, add_prompts, mask_ranks
    from fedjax_edu.models.dropping import drop_modalities
    from fedjax_edu.models.encoders.audio import AudioEncoder
    from fedjax_edu.models.encoders.features import FeaturesEncoder, Stamped
    from fedjax_edu.models.encoders.image import ImageEncoder
    from fedjax_edu.models.encoders.phrases import Bag, PhraseEncoder
    from fedjax_edu.models.encoders.sentences import SentenceEncoder
    from fedjax_edu.models.encoders.sequence import Interactions, SequenceEncoder
    from fedjax_edu.models.encoders.tabular import Record, TabularEncoder
    from fedjax_edu.models.encoders.text import TextConfig, TextEncoder
    from fedjax_edu.models.ensemble import TabularEnsemble
    from fedjax_edu.models.entries import Entry, describe, expert_leaves, modules_of, registry
    from fedjax_edu.models.experts import Experts, Routed
    from fedjax_edu.models.function import functional
    from fedjax_edu.models.fusion.gated import GatedFusion
    from fedjax_edu.models.fusion.joint import JointFusion
    from fedjax_edu.models.fusion.transformer import TransformerFusion
    from fedjax_edu.models.heads import (
        BinaryHead,
        CategoricalHead,
        NextResponseHead,
        OrdinalHead,
        Ranked,
        RankingHead,
        RegressionHead,
    )
    from fedjax_edu.models.linear import Linear
    from fedjax_edu.models.losses import Agreement, Wanted, expert_metrics, make_loss
    from fedjax_edu.models.multimodal import M3T, Answers, Content
    from fedjax_edu.models.multitask import MultiTaskModel
    from fedjax_edu.models.pretrained.low_rank import load_low_rank, save_low_rank
    from fedjax_edu.models.tokens import Tokens
    from fedjax_edu.models.transformer import Transformer, TransformerConfig
    from fedjax_edu.models.weighting import Uncertainty, cagrad, gram, pcgrad

_HOME = {
    "agreement": ["aligned_margin", "contrastive_matching"],
    "attention": ["Attention"],
    "building": [
        *("Tabular", "Sequence", "Text", "Sentences", "Phrases", "Image", "Audio", "Features"),
        *("Binary", "Regression", "Categorical", "Ordinal", "NextResponse", "Ranking"),
        *("SIZES", "Size", "m3t"),
    ],
    "convolution": ["conv2d"],
    "corrections": ["add_adapters", "add_low_rank", "add_prompts", "mask_ranks"],
    "dropping": ["drop_modalities"],
    "encoders.audio": ["AudioEncoder"],
    "encoders.features": ["FeaturesEncoder", "Stamped"],
    "encoders.image": ["ImageEncoder"],
    "encoders.sentences": ["SentenceEncoder"],
    "encoders.sequence": ["Interactions", "SequenceEncoder"],
    "encoders.phrases": ["Bag", "PhraseEncoder"],
    "encoders.tabular": ["Record", "TabularEncoder"],
    "encoders.text": ["TextConfig", "TextEncoder"],
    "ensemble": ["TabularEnsemble"],
    "experts": ["Experts", "Routed"],
    "function": ["functional"],
    "fusion.gated": ["GatedFusion"],
    "fusion.joint": ["JointFusion"],
    "fusion.transformer": ["TransformerFusion"],
    "heads": ["BinaryHead", "CategoricalHead", "NextResponseHead", "OrdinalHead", "Ranked", "RankingHead", "RegressionHead"],
    "linear": ["Linear"],
    "losses": ["Agreement", "Wanted", "expert_metrics", "make_loss"],
    "multimodal": ["M3T", "Answers", "Content"],
    "multitask": ["MultiTaskModel"],
    "entries": ["Entry", "describe", "expert_leaves", "modules_of", "registry"],
    "pretrained.low_rank": ["load_low_rank", "save_low_rank"],
    "tokens": ["Tokens"],
    "transformer": ["Transformer", "TransformerConfig"],
    "weighting": ["Uncertainty", "cagrad", "gram", "pcgrad"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = [
    "M3T",
    "SIZES",
    "Agreement",
    "Answers",
    "Attention",
    "Audio",
    "AudioEncoder",
    "Bag",
    "Binary",
    "BinaryHead",
    "Categorical",
    "CategoricalHead",
    "Content",
    "Entry",
    "Experts",
    "Features",
    "FeaturesEncoder",
    "GatedFusion",
    "Image",
    "ImageEncoder",
    "Interactions",
    "JointFusion",
    "Linear",
    "MultiTaskModel",
    "NextResponse",
    "NextResponseHead",
    "Ordinal",
    "OrdinalHead",
    "PhraseEncoder",
    "Phrases",
    "Ranked",
    "Ranking",
    "RankingHead",
    "Record",
    "Regression",
    "RegressionHead",
    "Routed",
    "SentenceEncoder",
    "Sentences",
    "Sequence",
    "SequenceEncoder",
    "Size",
    "Stamped",
    "Tabular",
    "TabularEncoder",
    "TabularEnsemble",
    "Text",
    "TextConfig",
    "TextEncoder",
    "Tokens",
    "Transformer",
    "TransformerConfig",
    "TransformerFusion",
    "Uncertainty",
    "Wanted",
    "add_adapters",
    "add_low_rank",
    "add_prompts",
    "aligned_margin",
    "cagrad",
    "contrastive_matching",
    "conv2d",
    "describe",
    "drop_modalities",
    "expert_leaves",
    "expert_metrics",
    "functional",
    "gram",
    "load_low_rank",
    "m3t",
    "make_loss",
    "mask_ranks",
    "modules_of",
    "pcgrad",
    "registry",
    "save_low_rank",
]


def __getattr__(name: str) -> Any:
    """Imports a model, and with it Flax, when it is first used."""
    if name in _MODULE:
        return getattr(importlib.import_module(f"fedjax_edu.models.{_MODULE[name]}"), name)
    raise AttributeError(f"module 'fedjax_edu.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
