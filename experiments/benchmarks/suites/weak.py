"""Weak scaling: as many clients a device, however many devices and processes there are."""

import dataclasses
import json
import socket
import subprocess
from typing import Any

from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.fresh import COHORT_A_DEVICE, command, in_fresh_process
from experiments.benchmarks.measure import Spread, spread
from experiments.benchmarks.peers.rivals import ROOT
from experiments.benchmarks.results import Measured, Options, Panel, Table, with_spread

LAYOUTS = ((1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4))  # devices, processes
COHORTS = (32, 128, 512, 2048)
PATIENCE = 240.0


def weak_scaling(options: Options) -> Measured:
    """Rounds of 16 clients a device: how long they take, and what devices and processes cost beyond the work itself.

    Devices that share cores cannot be as quick as devices of their own. What they cost is seen in the cores that they keep busy: seconds
    of a round times cores in use, which is processor time, for each client.
    """
    layouts = {name(*layout): _Layout(*layout, **_run(options, *layout)) for layout in LAYOUTS}
    one = next(iter(layouts.values())).processor_a_client
    costs = {label: layout.processor_a_client / one for label, layout in layouts.items()}
    rows = tuple(
        (
            label,
            with_spread(layout.round),
            f"{1 / layout.round.median:.1f}",
            f"{layout.processor.median / layout.round.median:.1f}",
            f"{costs[label]:.2f}",
            f"{sum(layout.bytes.values()):,}",
        )
        for label, layout in layouts.items()
    )
    columns = ("layout", "a round, median [quartiles]", "rounds/s", "cores in use", "time x cores, a client", "bytes")
    note = (
        "Time x cores, a client: processor seconds for each client, over those on one device. "
        "Bytes: what a device contributes to the collectives of a round, in the compiled program."
    )
    return Measured(
        measurements={"weak scaling": {label: dataclasses.asdict(layout) for label, layout in layouts.items()}},
        figures={
            f"weak scaling/{label}/processor time over one device": layout.processor_a_client / one for label, layout in layouts.items()
        },
        tables=(Table(f"Weak scaling, {COHORT_A_DEVICE} clients a device", columns, rows, note),),
        panels=(Panel("Weak scaling", "seconds a round", {label: layout.round for label, layout in layouts.items()}),),
    )


def collectives(options: Options) -> Measured:
    """What devices send each other in a round of FedAvg, which is the size of the model whatever the cohort."""
    found = {cohort: in_fresh_process(options, "collectives", 8, cohort) for cohort in COHORTS}
    rows = tuple((str(cohort), ", ".join(sorted(kinds)), f"{sum(kinds.values()):,}") for cohort, kinds in found.items())
    totals = [sum(kinds.values()) for kinds in found.values()]
    return Measured(
        measurements={"collectives": found},
        figures={"collectives/largest over smallest": max(totals) / min(totals)},
        tables=(Table("Bytes of a device in the collectives of a round, 8 devices", ("cohort", "kinds", "bytes"), rows),),
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
        port = free.getsockname()[1]
    commands = [command("weak", devices, processes, number, port) for number in range(processes)]
    started = [subprocess.Popen(each, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in commands]
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
