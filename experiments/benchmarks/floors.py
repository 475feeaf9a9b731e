"""The floors below which a result is a defect, as data, and the verdicts on what was measured."""

import dataclasses
import re
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Floor:
    """A bound on every figure whose name matches.

    Args:
        suite: that measures it.
        sentence: for people.
        pattern: regular expression that the whole name of a figure matches.
        bound: the least or the most that a figure may be.
        at_most: whether it is the most.
        jax: the first version of JAX that it is asked of.
    """

    suite: str
    sentence: str
    pattern: str
    bound: float
    at_most: bool = False
    jax: tuple[int, int] = (0, 0)

    def holds(self, value: float) -> bool:
        """Whether a figure passes; one that is not a number does not."""
        return value <= self.bound if self.at_most else value >= self.bound


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A floor and one figure.

    Args:
        floor: the floor.
        figure: name of the figure, or why there is none.
        value: of the figure; None without one.
        passed: None without a figure.
    """

    floor: Floor
    figure: str
    value: float | None
    passed: bool | None


FLOORS = (
    Floor("peers", "MLP against FedJAX", r"mlp/\d+/over fedjax", 3.3),
    Floor("peers", "MLP against pfl with two processes", r"mlp/\d+/over pfl 2 processes", 2.5),
    Floor("peers", "MLP against Flower", r"mlp/\d+/over flower", 12.0),
    Floor("peers", "CNN against FedJAX", r"cnn/\d+/over fedjax", 1.8),
    Floor("peers", "CNN against the best rival", r"cnn/\d+/over the best rival", 0.75),
    Floor("peers", "transformer against the best PyTorch loop", r"transformer/\d+/over the best PyTorch loop", 1.0),
    Floor("peers", "accuracy, points between us and a rival", r"\w+/\d+/accuracy gap", 1.5, at_most=True),
    Floor("cpu", "SCAFFOLD's time over FedAvg's", r"mlp/\d+/scaffold over fedavg", 1.35, at_most=True),
    Floor("cpu", "MLP, share of the matmul peak", r"mlp/128/share of peak", 0.60, jax=(0, 11)),
    Floor("cpu", "lanes=auto, time over the best number of lanes", r"lanes/\w+/auto over the best", 1.10, at_most=True),
    Floor("model", "experts in slots, with gradients, against one-hot products", r"experts/1/one-hot over slots.*", 3.0),
    Floor("model", "experts that refuse nobody against one-hot products", r"experts/\d+/one-hot over blocks.*", 1.0),
    Floor("model", "low-rank matrices, a round's time over full fine-tuning's", r"adapting/low-rank over full, seconds", 1.0, at_most=True),
    Floor(
        "model",
        "half of the clients without images, a round's time over that of all with some",
        r"lacking/half over all",
        0.65,
        at_most=True,
    ),
    Floor("model", "transformer, share of the matmul peak", r"transformer/share of peak", 0.50, jax=(0, 11)),
    Floor("scaling", "time per client, dearest cohort over cheapest", r"time per client/dearest over cheapest", 1.10, at_most=True),
    Floor("scaling", "resident memory, cohort 2,048 over cohort 32", r"memory/2048 over 32", 1.10, at_most=True),
    Floor("scaling", "bytes between devices, largest cohort over smallest", r"collectives/largest over smallest", 1.0, at_most=True),
    Floor("scaling", "main job, seconds to compile", r"compile/cold seconds", 10.0, at_most=True),
    Floor("scaling", "main job, seconds to compile from the cache", r"compile/cached seconds", 3.0, at_most=True),
    Floor("scaling", "streamed rows, throughput over resident rows", r"streaming/memory maps over resident", 0.80),
    Floor("scaling", "lazy clients, a million's cost over ten thousand's", r"lazy clients/cost over few", 1.15, at_most=True),
    Floor("scaling", "lazy clients, memory in the end over a tenth", r"lazy clients/memory, end over a tenth", 1.05, at_most=True),
    Floor("scaling", "heads on the host, device bytes", r"personal heads/device bytes over those of a tenth", 1.01, at_most=True),
    Floor("scaling", "heads on the host, resident bytes", r"personal heads/resident bytes of a byte of heads", 1.25, at_most=True),
    Floor("scaling", "sweep, members against one run after another", r"sweep/one after another over members", 1.5),
    Floor("scaling", "sweep, members against processes", r"sweep/processes over members", 3.0),
    Floor("scaling", "sweep, members from their lone runs", r"sweep/gap of members", 1e-6, at_most=True),
)


def judge(suite: str, figures: Mapping[str, float], jax: tuple[int, int], floors: tuple[Floor, ...] = FLOORS) -> list[Verdict]:
    """Every floor of a suite with every figure that it is about.

    Args:
        suite: what was run.
        figures: what it found.
        jax: the version that it ran on.
        floors: to judge by.

    Returns:
        Verdicts in the floors' order; one without a figure where none was measured, or the floor is asked of a later JAX.
    """
    return [verdict for floor in floors if floor.suite == suite for verdict in _judge_one(floor, figures, jax)]


def _judge_one(floor: Floor, figures: Mapping[str, float], jax: tuple[int, int]) -> list[Verdict]:
    if jax < floor.jax:
        return [Verdict(floor, f"asked from JAX {floor.jax[0]}.{floor.jax[1]} on", None, None)]
    found = {name: value for name, value in figures.items() if re.fullmatch(floor.pattern, name)}
    if not found:
        return [Verdict(floor, "not measured", None, None)]
    return [Verdict(floor, name, value, floor.holds(value)) for name, value in found.items()]


def describe(verdict: Verdict) -> tuple[str, str, str, str]:
    """A row for people: sentence, bound, figure, verdict."""
    floor = verdict.floor
    bound = f"{'at most' if floor.at_most else 'at least'} {floor.bound:g}"
    if verdict.value is None or verdict.passed is None:
        return floor.sentence, bound, "–", verdict.figure
    return floor.sentence, bound, f"{verdict.figure} = {verdict.value:.3g}", "holds" if verdict.passed else "FAILS"
