"""Texts as word pieces, by the tokenizer that came with published weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedjax_edu.core.errors import DataError, require

SHORTEST = 16  # word pieces: texts are padded to this length or twice, four times ... as much, so that few programs are compiled


class WordPieces:
    """A tokenizer read from ``tokenizer.json``.

    Args:
        path: the file.
        limit: word pieces that are kept of a text, its two marks included.

    Raises:
        DataError: a file that is no tokenizer.
    """

    def __init__(self, path: Path, limit: int):
        require("cutting texts into word pieces", "pretrained", "tokenizers")
        from tokenizers import Tokenizer

        if not path.is_file():
            raise DataError(str(path), "no such file", "name a folder that holds it")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as problem:
            raise DataError(str(path), str(problem), "copy the tokenizer.json that belongs to the weights") from problem
        self._tokenizer.enable_truncation(limit)
        self._tokenizer.no_padding()
        self.limit = limit

    def save(self, path: Path) -> None:
        """Writes the tokenizer back."""
        self._tokenizer.save(str(path))

    def numbers(self, texts: Sequence[str], steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Word pieces of texts in the order given.

        Args:
            texts: any strings.
            steps: word pieces that are kept of a text, its two marks included.

        Returns:
            (int32 [texts, steps], zeros after the last; how many each has, int32 [texts]).
        """
        pieces = self._cut(texts)
        cut = [one if len(one) <= steps else [*one[: steps - 1], one[-1]] for one in pieces]
        numbers = np.zeros((len(texts), steps), np.int32)
        for row, one in enumerate(cut):
            numbers[row, : len(one)] = one
        return numbers, np.array([len(one) for one in cut], np.int32)

    def batches(self, texts: Sequence[str], together: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Texts of about the same length in batches.

        Args:
            texts: any strings.
            together: texts of a batch; the last batch of a length is filled up with repetitions.

        Yields:
            (numbers of the texts, their word pieces int32 [together, T], their lengths int32 [together]).
        """
        pieces = self._cut(texts)
        lengths = np.array([len(one) for one in pieces], np.int32)
        padded = np.minimum(SHORTEST * 2 ** np.ceil(np.log2(np.maximum(lengths, SHORTEST) / SHORTEST)), self.limit).astype(int)
        for length in np.unique(padded):
            of_length = np.flatnonzero(padded == length)
            for rows in np.split(of_length, range(together, len(of_length), together)):
                filled = np.resize(rows, together)
                numbers = np.zeros((together, length), np.int32)
                for place, row in enumerate(filled):
                    numbers[place, : lengths[row]] = pieces[row]
                yield rows, numbers, lengths[filled]

    def _cut(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text, of which halves of characters are left out: no encoding has them."""
        well_formed = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoded.ids for encoded in self._tokenizer.encode_batch(well_formed)]
