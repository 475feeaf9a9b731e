r"""What each modality shows of a student's abilities, and how likely that is under any ability.

Two abilities drive everything: knowledge :math:`\theta_0` and engagement :math:`\theta_1`. A modality shows one of them, records both.
Of quality q in (0, 1] there is 1 where an institution measures as well as it can.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjax_edu.core.errors import require

Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], dict[str, np.ndarray]]
Likelihood = Callable[[dict[str, np.ndarray], np.ndarray, np.ndarray, int], np.ndarray]

FEATURES, ITEMS, STEPS, VOCABULARY, WORDS, DIGITS, FRAMES, BANDS = 4, 30, 12, 50, 16, 10, 10, 4
DISCRIMINATION, RECORD_NOISE, DIGIT_NOISE, FRAME_NOISE = 1.2, 2.5, 0.8, 4.0
DIFFICULTIES = np.linspace(-2.5, 2.5, ITEMS)
SLOPES = 0.5 * np.sin(7.0 * np.arange(VOCABULARY) + 1.0) * 2**0.5  # of words, fixed numbers without an order
PLACES = np.linspace(-2.0, 2.0, DIGITS)  # the ability that a digit stands for
TILTS = np.array([1.0, -0.5, 0.8, 0.3])  # of bands of sound


class Modality(NamedTuple):
    """A kind of content.

    Args:
        abilities: which it shows.
        draw: ``(random, abilities [n, 2], quality [n]) -> arrays [n, ...] by name``.
        likelihood: ``(arrays, quality [n], grid [G], ability) -> log-likelihood [n, G]`` of each value of one ability.
    """

    abilities: tuple[int, ...]
    draw: Draw
    likelihood: Likelihood


def _normal(values: np.ndarray, means: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Logarithm of normal densities, up to a constant."""
    return -0.5 * ((values - means) / deviation) ** 2


def _draw_records(random: np.random.Generator, abilities: np.ndarray, quality: np.ndarray) -> dict[str, np.ndarray]:
    noise = random.normal(size=(len(abilities), 2, FEATURES)) * RECORD_NOISE / quality[:, None, None]
    return {"values": (abilities[:, :, None] + noise).reshape(len(abilities), -1)}


def _records(arrays: dict[str, np.ndarray], quality: np.ndarray, grid: np.ndarray, ability: int) -> np.ndarray:
    values = arrays["values"].reshape(len(quality), 2, FEATURES)[:, ability]
    return _normal(values.mean(axis=1)[:, None], grid, RECORD_NOISE / FEATURES**0.5 / quality[:, None])


def _right(ability: np.ndarray, difficulty: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Probability of a right answer: a two-parameter logistic model, and answers that are noted down wrongly."""
    wrong = (1 - quality) / 4
    return wrong + (1 - 2 * wrong) / (1 + np.exp(-DISCRIMINATION * (ability - difficulty)))


def _draw_answers(random: np.random.Generator, abilities: np.ndarray, quality: np.ndarray) -> dict[str, np.ndarray]:
    items = random.integers(ITEMS, size=(len(abilities), STEPS))
    chance = _right(abilities[:, :1], DIFFICULTIES[items], quality[:, None])
    return {"items": items, "responses": random.random(items.shape) < chance, "gaps": random.exponential(size=items.shape)}


def _answers(arrays: dict[str, np.ndarray], quality: np.ndarray, grid: np.ndarray, ability: int) -> np.ndarray:
    chance = _right(grid, DIFFICULTIES[arrays["items"]][:, :, None], quality[:, None, None])
    return np.log(np.where(arrays["responses"][:, :, None] > 0, chance, 1 - chance)).sum(axis=1)


def _word_chances(ability: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Logarithm of the probability of each word, [..., words]."""
    scores = SLOPES * (ability * quality)[..., None]
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def _draw_words(random: np.random.Generator, abilities: np.ndarray, quality: np.ndarray) -> dict[str, np.ndarray]:
    chances = np.exp(_word_chances(abilities[:, 1], quality)).cumsum(axis=1)
    drawn = random.random((len(abilities), WORDS, 1)) > chances[:, None, :-1]
    return {"tokens": drawn.sum(axis=2)}


def _words(arrays: dict[str, np.ndarray], quality: np.ndarray, grid: np.ndarray, ability: int) -> np.ndarray:
    total = SLOPES[arrays["tokens"]].sum(axis=1)  # sufficient
    distinct, row = np.unique(quality, return_inverse=True)  # one for an institution
    scale = np.log(np.exp(SLOPES * (grid * distinct[:, None])[..., None]).sum(axis=-1))
    return total[:, None] * grid * quality[:, None] - WORDS * scale[row]


def _digit_chances(ability: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Probability of each digit, [..., digits]."""
    chances = np.exp(_normal(PLACES, ability[..., None], (DIGIT_NOISE / quality)[..., None]))
    return chances / chances.sum(axis=-1, keepdims=True)


def _draw_images(random: np.random.Generator, abilities: np.ndarray, quality: np.ndarray) -> dict[str, np.ndarray]:
    glyphs, labels = glyphs_of_digits()
    chances = _digit_chances(abilities[:, 0], quality).cumsum(axis=1)
    digits = (random.random((len(abilities), 1)) > chances[:, :-1]).sum(axis=1)
    order = np.argsort(labels, kind="stable")
    first, count = np.searchsorted(labels[order], np.arange(DIGITS)), np.bincount(labels, minlength=DIGITS)
    chosen = order[first[digits] + (random.random(len(digits)) * count[digits]).astype(int)]
    return {"pixels": glyphs[chosen][..., None], "digits": digits}


def _images(arrays: dict[str, np.ndarray], quality: np.ndarray, grid: np.ndarray, ability: int) -> np.ndarray:
    distinct, row = np.unique(quality, return_inverse=True)
    chances = _digit_chances(np.tile(grid, (len(distinct), 1)), np.tile(distinct[:, None], len(grid)))
    return np.log(chances[row, :, arrays["digits"]])


def _draw_sound(random: np.random.Generator, abilities: np.ndarray, quality: np.ndarray) -> dict[str, np.ndarray]:
    noise = random.normal(size=(len(abilities), FRAMES, BANDS)) * FRAME_NOISE / quality[:, None, None]
    times = np.sort(random.random((len(abilities), FRAMES)), axis=1) * 60
    return {"values": abilities[:, 1, None, None] * TILTS + noise, "times": times}


def _sound(arrays: dict[str, np.ndarray], quality: np.ndarray, grid: np.ndarray, ability: int) -> np.ndarray:
    strength = np.sum(TILTS**2) * FRAMES
    estimate = np.einsum("nfb,b->n", arrays["values"], TILTS) / strength
    return _normal(estimate[:, None], grid, FRAME_NOISE / strength**0.5 / quality[:, None])


@functools.cache
def glyphs_of_digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits of scikit-learn, [1797, 8, 8] between 0 and 1, and which they are."""
    require("images of m3t_world", "study", "sklearn")
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.images / 16.0, bunch.target


MODALITIES = {
    "tabular": Modality((0, 1), _draw_records, _records),
    "sequence": Modality((0,), _draw_answers, _answers),
    "text": Modality((1,), _draw_words, _words),
    "image": Modality((0,), _draw_images, _images),
    "audio": Modality((1,), _draw_sound, _sound),
}
