"""Texts of tables as pieces: what the encoders of a multi-modal model read of their rows."""

from typing import Any, NamedTuple

import numpy as np

from fedjax_edu.data import Feature, Population
from fedjax_edu.models.multimodal import Content
from fedjax_edu.models.pretrained.tokenizing import WordPieces

SHORTEST, LONGEST = 3, 5  # letters of a subword


class Texts(NamedTuple):
    """The texts of each row, one after another.

    Args:
        distinct: what there is.
        at: which of them is a row's, int [rows].
        present: rows that have any, bool [rows].
    """

    distinct: list[str]
    at: np.ndarray
    present: Any


def texts_of(population: Population, features: tuple[Feature, ...]) -> Texts:
    """The texts of a population that was made from tables, in the order of the features; one that it lacks is absent."""
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
    at = np.array([distinct.setdefault(text, len(distinct)) for text in texts.tolist()])
    return Texts(list(distinct), at, present)


def words_of(texts: Texts, pieces: WordPieces, steps: int) -> Content:
    """Texts as word pieces of a text encoder.

    Args:
        texts: of each row.
        pieces: what cuts them.
        steps: word pieces that are kept of a row.

    Returns:
        A modality of int32 [rows, steps]; rows without a text are absent.
    """
    numbers, lengths = pieces.numbers(texts.distinct, steps)
    kept: Any = lengths[texts.at]
    return Content(numbers[texts.at], texts.present, kept)


def subwords_of(texts: Texts, buckets: int, steps: int) -> Content:
    """Texts as the different subwords, of three to five letters, of their words, by hash.

    Args:
        texts: of each row.
        buckets: numbers that there are for subwords.
        steps: subwords that are kept of a row, those of the lowest numbers.

    Returns:
        A modality of int32 [rows, steps]; rows without a text are absent, and so are those of a text without a subword.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(SHORTEST, LONGEST), n_features=buckets, alternate_sign=False, norm=None)
    found = hashing.transform(texts.distinct)
    found.sort_indices()
    lengths = np.minimum(np.diff(found.indptr), steps).astype(np.int32)
    numbers = np.zeros((len(texts.distinct), steps), np.int32)
    there = np.arange(steps) < lengths[:, None]
    numbers[there] = found.indices[(found.indptr[:-1, None] + np.arange(steps))[there]]
    kept: Any = lengths[texts.at]
    return Content(numbers[texts.at], texts.present, kept)
