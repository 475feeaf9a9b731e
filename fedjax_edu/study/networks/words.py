"""Texts of tables as pieces: what the encoders of a multi-modal model read of their rows."""

import unicodedata
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fedjax_edu.data import Feature, Population
from fedjax_edu.models.encoders.phrases import Bag
from fedjax_edu.models.multimodal import Content
from fedjax_edu.models.pretrained.tokenizing import WordPieces

LONGEST = 3  # words of a phrase


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


def phrases_of(texts: Texts, buckets: int, steps: int, stop_words: str) -> Content:
    """Texts as their different words, pairs and triples of neighbouring words, by hash.

    A word is letters, marks of letters and digits of any script; one Latin letter alone is none. Scripts that put no spaces between words
    have one for what stands between spaces.

    A phrase of n words weighs (n + 1) / 2: it is rarer, and says more, than its words. The weights of a text have the norm 1. Unlike
    frequencies, they need no count over all clients.

    Args:
        texts: of each row.
        buckets: numbers that there are for phrases.
        steps: phrases that are kept of a row, those of the lowest numbers.
        stop_words: ``"english"``: frequent words of it, as scikit-learn lists them, are left out; empty: none are.

    Returns:
        A modality of :class:`fedjax_edu.models.Bag`; rows without a text are absent, and so are those of a text without a phrase.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, HashingVectorizer

    left_out = ENGLISH_STOP_WORDS if stop_words else frozenset()
    words = [[word for word in _words(text) if word not in left_out] for text in texts.distinct]
    hashed = partial(HashingVectorizer, n_features=buckets, alternate_sign=False, binary=True, norm=None)
    found = sum((size + 1) / 2 * hashed(analyzer=partial(_neighbours, size)).transform(words) for size in range(1, LONGEST + 1))
    lengths = np.minimum(np.diff(found.indptr), steps).astype(np.int32)
    there = np.arange(steps) < lengths[:, None]
    at = (found.indptr[:-1, None] + np.arange(steps))[there]
    numbers, weights = np.zeros(there.shape, np.int32), np.zeros(there.shape, np.float32)
    numbers[there], weights[there] = found.indices[at], found.data[at]
    weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1)
    kept: Any = lengths[texts.at]
    return Content(Bag(numbers[texts.at], weights[texts.at]), texts.present, kept)


def _words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    letters = (one if one.isalnum() or unicodedata.category(one).startswith("M") else " " for one in unicodedata.normalize("NFC", text))
    return [word for word in "".join(letters).lower().split() if not (len(word) == 1 and word.isascii())]


def _neighbours(length: int, words: list[str]) -> list[str]:
    """Phrases of so many words."""
    return [" ".join(words[at : at + length]) for at in range(len(words) - length + 1)]
