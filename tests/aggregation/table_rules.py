"""The table of rules that read every update, and of attacks: one row each, run through every test of test_suite_rules.py."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjax_edu.aggregation import (
    Chain,
    attacks,
    centered_clip,
    chain,
    fltrust,
    geometric_median,
    krum,
    mean,
    median,
    multi_krum,
    trimmed_mean,
)
from tests.aggregation import cohort
from tests.reference import rules

LIARS = cohort.POPULATION.ids[[1, 7]]
ROOT = int(cohort.POPULATION.ids[4])

Twin = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], tuple[Any, np.ndarray | None]]


class Row(NamedTuple):
    """A chain under test.

    Args:
        name: of the test case.
        make: the chain.
        twin: ``(memory, updates [n, d], weights [n], ids [n]) -> (memory, mean [d])`` of one module's holders by rising id, in NumPy;
            the memory is None at first, a mean of None moves nothing.
    """

    name: str
    make: Callable[[], Chain]
    twin: Twin


def _rule(rule: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Twin:
    return lambda memory, updates, weights, ids: (memory, rule(updates, weights))


def _average(updates: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.average(updates, axis=0, weights=weights)


def _attacked(lie: Callable[[np.ndarray, np.ndarray], np.ndarray], rule: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Twin:
    return lambda memory, updates, weights, ids: (memory, rule(lie(updates, np.isin(ids, LIARS)), weights))


def _scaled(factor: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda updates, liars: np.where(liars[:, None], factor * updates, updates)


def _centred(radius: float) -> Twin:
    def twin(memory, updates, weights, ids):
        centre = rules.centered_clip(updates, 0 if memory is None else memory, radius, 2)
        return centre, centre

    return twin


def _trusted(memory, updates, weights, ids):
    return memory, rules.fltrust(updates, list(ids).index(ROOT)) if ROOT in ids else None


RULES = (
    Row("median", lambda: chain(median()), _rule(rules.median)),
    Row("trimmed-mean", lambda: chain(trimmed_mean(0.2)), _rule(rules.trimmed_mean(0.2))),
    Row("krum", lambda: chain(krum(1)), _rule(rules.multi_krum(1, 1))),
    Row("multi-krum", lambda: chain(multi_krum(2, 3)), _rule(rules.multi_krum(2, 3))),
    Row("geometric-median", lambda: chain(geometric_median(4)), _rule(rules.weiszfeld(4, 1e-6))),
    Row("centered-clip", lambda: chain(centered_clip(2.0, iterations=2)), _centred(2.0)),
    Row("fltrust", lambda: chain(fltrust(ROOT)), _trusted),
    Row("sign-flip", lambda: chain(attacks.sign_flip(LIARS, 2.0), mean()), _attacked(_scaled(-2.0), _average)),
    Row("noise", lambda: chain(attacks.gaussian(LIARS, 1e-12), median()), _attacked(_scaled(0.0), rules.median)),
    Row("model-replacement", lambda: chain(attacks.model_replacement(LIARS, 9.0), mean()), _attacked(_scaled(9.0), _average)),
    Row("a-little-is-enough", lambda: chain(attacks.alie(LIARS), median()), _attacked(rules.alie, rules.median)),
    Row(
        "inner-product-manipulation",
        lambda: chain(attacks.ipm(LIARS, 0.5), mean()),
        _attacked(lambda updates, liars: rules.ipm(updates, liars, 0.5), _average),
    ),
)
