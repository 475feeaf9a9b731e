"""Texts of tables as word pieces: what a text encoder of a multi-modal model reads of their rows."""

from typing import Any

import numpy as np

from fedjax_edu.data import Feature, Population
from fedjax_edu.models.multimodal import Content
from fedjax_edu.models.pretrained.tokenizing import WordPieces


def words_of(population: Population, features: tuple[Feature, ...], pieces: WordPieces, steps: int) -> Content:
    """The texts of each row, one after another, as word pieces.

    Args:
        population: made from tables; a text that it lacks is absent.
        features: the texts that are read, in order.
        pieces: what cuts them.
        steps: word pieces that are kept of a row.

    Returns:
        A modality of int32 [rows, steps]; rows without a text are absent.
    """
    rows = population.num_examples
    texts: Any = np.full(rows, "", dtype=object)
    present: Any = np.zeros(rows, bool)
    for feature in features:
        places = population.arrays["texts"][feature.name]
        there = places >= 0
        known = np.array([*population.texts.get(feature.name, ()), ""], dtype=object)[places]
        texts = np.where(present & there, texts + "\n" + known, np.where(there, known, texts))
        present |= there
    distinct: dict[str, int] = {}
    owner = np.array([distinct.setdefault(text, len(distinct)) for text in texts.tolist()])
    numbers, lengths = pieces.numbers(list(distinct), steps)
    kept: Any = lengths[owner]
    return Content(numbers[owner], present, kept)
