"""Weak scaling: as many clients a device, however many devices and processes there are."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from typing import Any

from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.fresh import COHORT_A_DEVICE
from experiments.benchmarks.measure import Spread, spread
from experiments.benchmarks.peers.rivals import ROOT
from experiments.benchmarks.results import Measured, Options, Panel, Table, with_spread

LAYOUTS = ((1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4))  # devices, processes
PATIENCE = 240.0


def weak_scaling(options: Options) -> Measured:
    """Rounds of 16 clients a device: the time of a round, and what the devices and processes cost beyond their work.

    Devices beyond the machine's cores share them, so a round of n devices cannot take less than n / cores of the time of one. Overhead
    divides that out: processor seconds of a client, over those on one device.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    layouts = {name(*layout): _Layout(*layout, **_run(options, *layout)) for layout in LAYOUTS}
    one = next(iter(layouts.values()))
    figures: dict[str, float] = {}
    for label, layout in layouts.items():
        figures[f"weak scaling/{label}/processor seconds over one device"] = layout.processor_a_client / one.processor_a_client
        figures[f"weak scaling/{label}/bytes"] = sum(layout.bytes.values())
    rows = tuple(
        (
            label,
            with_spread(layout.round),
            f"{1 / layout.round.median:.1f}",
            f"{layout.round.median * min(layout.devices, cores) / layout.devices / one.round.median:.2f}",
            f"{layout.processor_a_client / one.processor_a_client:.2f}",
            f"{sum(layout.bytes.values()):,}",
        )
        for label, layout in layouts.items()
    )
    columns = ("layout", "a round, median [quartiles]", "rounds/s", "time x cores / work", "processor time", "bytes")
    note = (
        f"{cores} cores. Time x cores / work: seconds of a round, times the cores that its devices can use, for each device, over those of "
        "one device. Processor time: seconds of all processors for each client, over those on one device. "
        "Bytes: what a device contributes to the collectives of a round, in the compiled program."
    )
    return Measured(
        measurements={"weak scaling": {label: dataclasses.asdict(layout) for label, layout in layouts.items()}},
        figures=figures,
        tables=(Table(f"Weak scaling, {COHORT_A_DEVICE} clients a device", columns, rows, note),),
        panels=(Panel("Weak scaling", "seconds a round", {label: layout.round for label, layout in layouts.items()}),),
    )


@dataclasses.dataclass(frozen=True)
class _Layout:
    """What one layout took: a round, all processors for a round, and bytes by kind of collective."""

    devices: int
    processes: int
    round: Spread
    processor: Spread
    bytes: dict[str, int]

    @property
    def processor_a_client(self) -> float:
        """Seconds of all processors for one client."""
        return self.processor.median / self.devices / COHORT_A_DEVICE


def name(devices: int, processes: int) -> str:
    """A layout in words.

    >>> name(1, 1), name(4, 2)
    ('1 device', '4 devices in 2 processes')
    """
    return f"{devices} device{'s' * (devices > 1)}" + (f" in {processes} processes" if processes > 1 else "")


def _run(options: Options, devices: int, processes: int) -> dict[str, Any]:
    """What a layout takes in fresh processes: a round is as long as that of the slowest."""
    options.say(f"weak scaling, {name(devices, processes)}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "experiments.benchmarks.fresh", "weak", str(devices), str(processes)]
    started = [
        subprocess.Popen([*command, str(number), coordinator], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    try:
        told = [_answer(process) for process in started]
    finally:
        for process in started:
            process.kill()
    rounds = [max(each) for each in zip(*(one["seconds"] for one in told), strict=True)]
    busy = [sum(each) for each in zip(*(one["processor seconds"] for one in told), strict=True)]
    return {"round": spread(rounds), "processor": spread(busy), "bytes": told[0]["bytes"]}


def _answer(process: subprocess.Popen) -> dict[str, Any]:
    written, errors = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise BenchmarkError(f"weak scaling: a process ended with {process.returncode}:\n{errors[-1000:]}")
    return json.loads(written.splitlines()[-1])
