"""A model on paper of rounds on more devices than anybody has measured."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices and what joins them.

    Args:
        devices: how many.
        flops: useful operations a second that a device reaches in local steps.
        bandwidth: bytes a second that a device sends to its neighbour.
        latency: seconds of one hop.
        reading: bytes a second that a host reads for one of its devices.
    """

    devices: int
    flops: float
    bandwidth: float
    latency: float
    reading: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """What a round has to do.

    Args:
        steps: local steps of a client, on average.
        longest: local steps of the largest client.
        clients: of the cohort.
        lanes: of each device.
        step_flops: operations of one local step.
        step_bytes: bytes of the rows that one local step reads for the first time.
        update_bytes: bytes that the devices sum.
    """

    steps: float
    longest: int
    clients: int
    lanes: int
    step_flops: float
    step_bytes: float
    update_bytes: float


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Seconds of a round, part by part.

    Args:
        utilisation: bound on the share of the lanes' steps that do work.
        compute: seconds of the local steps, idle lanes included.
        reduce: seconds of the sum over devices.
        reading: seconds that hosts read rows for; it happens while devices compute.
        round: seconds of the round.
        efficiency: seconds of the work alone over seconds of the round.
    """

    utilisation: float
    compute: float
    reduce: float
    reading: float
    round: float
    efficiency: float


def forecast(work: Round, machine: Machine) -> Forecast:
    r"""Seconds of a round.

    With :math:`n` devices of :math:`L` lanes, :math:`T` local steps in all and :math:`t` of the largest client,

    .. math::
        U = \frac{T}{n L \max(\lceil T / n L \rceil, t)}, \quad
        t_\text{compute} = \frac{T F}{n U \phi}, \quad
        t_\text{reduce} = 2 \frac{n - 1}{n} \frac{B}{\beta} + 2 \alpha \lceil \log_2 n \rceil

    for :math:`F` operations a step at :math:`\phi` operations a second, and :math:`B` bytes at bandwidth :math:`\beta` and latency
    :math:`\alpha`. Rows are read while devices compute: the slower of the two counts.

    Args:
        work: what a round has to do.
        machine: where.

    >>> work = Round(steps=4, longest=4, clients=64, lanes=4, step_flops=1e9, step_bytes=0, update_bytes=8e6)
    >>> one = forecast(work, Machine(devices=1, flops=1e12, bandwidth=1e9, latency=0, reading=1e9))
    >>> two = forecast(work, Machine(devices=2, flops=1e12, bandwidth=1e9, latency=0, reading=1e9))
    >>> one.round, two.compute, two.reduce
    (0.256, 0.128, 0.008)
    """
    total = work.steps * work.clients
    slots = machine.devices * work.lanes
    utilisation = total / (slots * max(math.ceil(total / slots), work.longest))
    alone = total * work.step_flops / machine.devices / machine.flops
    reduce = 2 * (machine.devices - 1) / machine.devices * work.update_bytes / machine.bandwidth
    reduce += 2 * machine.latency * math.ceil(math.log2(machine.devices))
    reading = total * work.step_bytes / machine.devices / machine.reading
    seconds = max(alone / utilisation, reading) + reduce
    return Forecast(utilisation, alone / utilisation, reduce, reading, seconds, alone / seconds)
