"""What each school adds to a federation's predictions, solved exactly from its own rows."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from fedjax_edu.core.errors import ConfigError
from fedjax_edu.data import Task
from fedjax_edu.study.config import TaskConfig
from fedjax_edu.study.schools import Side

NEWTON_STEPS = 50
TOLERANCE = 1e-8  # of a step, in log-odds


@dataclasses.dataclass(frozen=True)
class Effects:
    r"""An intercept, slopes and classroom effects of every school: the mode of a mixed model whose fixed effects are the federation.

    .. math:: \min_{a, b, u} \sum_i \ell\bigl(y_i, o_i + a + b^\top x_i + u_{c(i)}\bigr)
        + \tfrac12 \bigl(\lambda_a a^2 + \lambda_b \lVert b \rVert^2 + \lambda_u \lVert u \rVert^2\bigr)

    for each task, with the federation's output :math:`o_i`, half the squared error of standardised scores or the cross-entropy of
    log-odds. Every school solves it alone, in the space of its rows, where the prior is the covariance
    :math:`K_{ij} = 1/\lambda_a + x_i^\top x_j / \lambda_b + [c_i = c_j] / \lambda_u`: a linear system for scores, Newton steps for
    log-odds. A school that was not fitted adds nothing.

    Attributes:
        ids: of the schools, rising, [schools].
        intercept: [schools, tasks].
        slopes: [schools, inputs, tasks].
        classrooms: [schools, classrooms, tasks].

    Reference: Henderson (1975), "Best linear unbiased estimation and prediction under a selection model", Biometrics 31; Rasmussen,
    Williams (2006), "Gaussian Processes for Machine Learning", algorithm 3.1, for the Newton step.
    """

    ids: np.ndarray
    intercept: np.ndarray
    slopes: np.ndarray
    classrooms: np.ndarray

    @classmethod
    def fit(cls, side: Side, outputs: np.ndarray, tasks: Sequence[Task], settings: Sequence[TaskConfig], classrooms: int) -> Self:
        """The effects of all schools of a side.

        Args:
            side: the training rows.
            outputs: of the federation for them, [rows, tasks].
            tasks: what is predicted.
            settings: the shrinkage of each task, in rows.
            classrooms: classrooms of the largest school.

        Raises:
            ConfigError: a shrinkage of 0, which leaves what no row speaks of without a value.
        """
        for task, one in zip(tasks, settings, strict=True):
            if min(one.intercept, one.slopes, one.classrooms) <= 0:
                raise ConfigError(f"config.tasks, {task.name}", one, "use a positive intercept, slopes and classrooms")
        population, arrays = side.population, side.population.arrays
        order = np.argsort(population.ids)
        shape = (population.num_clients, len(tasks))
        found = cls(
            ids=population.ids[order],
            intercept=np.zeros(shape),
            slopes=np.zeros((shape[0], arrays["inputs"].shape[1], shape[1])),
            classrooms=np.zeros((shape[0], classrooms, shape[1])),
        )
        for school, client in enumerate(order.tolist()):
            rows = np.arange(population.offsets[client], population.offsets[client + 1])
            for position, (task, one) in enumerate(zip(tasks, settings, strict=True)):
                own = rows[arrays["present"][rows, position] > 0]
                if own.size:
                    inputs, rooms = arrays["inputs"][own].astype(np.float64), arrays["classroom"][own]
                    covariance = 1 / one.intercept + inputs @ inputs.T / one.slopes + (rooms[:, None] == rooms) / one.classrooms
                    solve = _log_odds if task.binary else _scores
                    dual = solve(covariance, outputs[own, position].astype(np.float64), arrays["targets"][own, position])
                    found.intercept[school, position] = dual.sum() / one.intercept
                    found.slopes[school, :, position] = inputs.T @ dual / one.slopes
                    np.add.at(found.classrooms[school, :, position], rooms, dual / one.classrooms)
        return found

    def of(self, side: Side) -> np.ndarray:
        """What schools add to the outputs for their rows, float64 [rows, tasks]."""
        arrays, school = side.population.arrays, side.school
        place = np.minimum(np.searchsorted(self.ids, school), len(self.ids) - 1)
        added = self.intercept[place] + self.classrooms[place, arrays["classroom"]]
        for one in np.unique(place):  # slopes of one school at a time: those of all rows would not fit in memory
            rows = np.flatnonzero(place == one)
            added[rows] += arrays["inputs"][rows].astype(np.float64) @ self.slopes[one]
        return np.where((self.ids[place] == school)[:, None], added, 0.0)


def _scores(covariance: np.ndarray, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.linalg.solve(covariance + np.eye(len(covariance)), targets - outputs)


def _log_odds(covariance: np.ndarray, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    dual, effect = np.zeros(len(outputs)), np.zeros(len(outputs))
    for _ in range(NEWTON_STEPS):
        probability = expit(outputs + effect)
        root = np.sqrt(probability * (1 - probability))
        wanted = root**2 * effect + targets - probability
        inner = np.eye(len(outputs)) + root[:, None] * covariance * root
        dual = wanted - root * np.linalg.solve(inner, root * (covariance @ wanted))
        before, effect = effect, covariance @ dual
        if np.abs(effect - before).max() < TOLERANCE:
            break
    return dual
