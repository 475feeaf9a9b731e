"""A small model of the BERT family with random weights, and its tokenizer of whole words, as files."""

from pathlib import Path

import pytest
from flax import nnx

from fedjax_edu.models.encoders.text import TextConfig, TextEncoder

CONFIG = TextConfig(vocabulary=12, positions=8, width=8, layers=2, heads=2, hidden=12)
WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "algebra": 4, "of": 5, "sets": 6}


def write(folder: Path) -> Path:
    """Writes both files; the encoder is ``TextEncoder(CONFIG, rngs=nnx.Rngs(0))``."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.save(str(folder / "tokenizer.json"))
    TextEncoder(CONFIG, rngs=nnx.Rngs(0)).save_pretrained(folder)
    return folder
