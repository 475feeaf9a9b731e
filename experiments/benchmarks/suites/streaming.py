"""Rows that are read from files while others are trained on, against rows that stay on the devices."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

import fedjax_edu as fe
from experiments.benchmarks import ours, workload
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.results import Measured, Options, Panel, Table, megabytes, with_spread
from experiments.benchmarks.timing import Runner, time_all

CLIENTS = 2048
DISTINCT = 128
COHORT = 32
ROUNDS = 48
TIMES = 20


def streaming(options: Options) -> Measured:
    """A population of twenty times what a device may hold of it, from memory maps and from records, beside one that is resident."""
    options.say("streaming")
    with tempfile.TemporaryDirectory() as folder:
        runners = make_runners(mapped(Path(folder), CLIENTS), Path(folder), COHORT, ROUNDS)
        timings = time_all(runners, "mlp", options.repeats)
    check_same(runners)
    resident = timings["resident"].round.median
    speeds = {name: resident / one.round.median for name, one in timings.items()}
    rows = tuple(
        (name, _held(runners[name]), with_spread(one.round), f"{one.examples / one.round.median:,.0f}", f"{speeds[name]:.2f}")
        for name, one in timings.items()
    )
    columns = ("rows", "of a device", "round, median [quartiles]", "examples/s", "of resident")
    note = f"Rows of {megabytes(bytes_of(runners['resident'].engine.population))}. All three end with the same parameters, bit for bit."
    return Measured(
        measurements={"streaming": {name: dataclasses.asdict(one) for name, one in timings.items()}},
        figures={f"streaming/{name} over resident": speed for name, speed in speeds.items() if name != "resident"},
        tables=(Table(f"Streaming, MLP, cohort {COHORT}", columns, rows, note),),
        panels=(Panel("Streaming", "seconds", {name: one.round for name, one in timings.items()}),),
    )


def _held(runner: Runner) -> str:
    return "all of it" if runner.engine.layout.budget is None else megabytes(runner.engine.layout.budget)


def make_runners(clients: workload.Workload, folder: Path, cohort: int, rounds: int, lanes: int | str = "auto") -> dict[str, Runner]:
    """The same clients with resident rows, and with rows that stream from memory maps and from records.

    Args:
        clients: with arrays that are memory maps.
        folder: where records go.
        cohort: clients a round.
        rounds: of one call.
        lanes: of the execution plan.

    Returns:
        Runners by name.

    Raises:
        BenchmarkError: a population that is not twenty times what a device may hold of it.
    """
    budget = bytes_of(fe.data.Population.from_arrays(clients.arrays, clients.offsets)) // TIMES
    records = recorded(clients, folder / "clients.array_record")
    runners = {
        "resident": Runner(clients, cohort, rounds, lanes=lanes),
        "memory maps": Runner(clients, cohort, rounds, lanes=lanes, resident_bytes=budget),
        "records": Runner(clients, cohort, rounds, lanes=lanes, resident_bytes=budget, population=records),
    }
    for name in ("memory maps", "records"):
        check_larger(runners[name].engine)
    return runners


def check_larger(engine: fe.Engine) -> None:
    """Makes sure that a population streams, and is `TIMES` as large as what a device may hold of it.

    Raises:
        BenchmarkError: it is not.
    """
    held, whole = engine.layout.budget, bytes_of(engine.population)
    if held is None or whole < TIMES * held:
        raise BenchmarkError(f"{whole} bytes of rows are not {TIMES} times the {held} that a device may hold")


def check_same(runners: dict[str, Runner]) -> None:
    """Makes sure that the place of the rows changes no bit of the parameters.

    Raises:
        BenchmarkError: it does.
    """
    resident, *others = (ours.arrays(runner.state) for runner in runners.values())
    if not all(np.array_equal(one[name], resident[name]) for one in others for name in resident):
        raise BenchmarkError("streamed rows gave other parameters than resident ones")


def bytes_of(population: fe.data.Population) -> int:
    """Bytes of all rows."""
    return population.num_examples * sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in population.spec.values())


def mapped(folder: Path, count: int) -> workload.Workload:
    """The MLP's clients in files that are mapped into memory; after `DISTINCT` of them they repeat.

    Args:
        folder: where the files go.
        count: of clients, a multiple of `DISTINCT`.
    """
    few = workload.make("mlp", clients=DISTINCT)
    times, rows = count // DISTINCT, len(few.arrays["y"])
    arrays: workload.Arrays = {}
    for name, array in few.arrays.items():
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", array.dtype, (times * rows, *array.shape[1:]))
        for number in range(times):
            file[number * rows : (number + 1) * rows] = array
        file.flush()
        arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return workload.Workload("mlp", arrays, np.concatenate([[0], np.cumsum(np.tile(few.sizes, times))]), few.held_out)


def recorded(clients: workload.Workload, path: Path) -> fe.data.Population:
    """Clients as array records, one each, read by their numbers.

    Args:
        clients: with arrays ``x`` and ``y``.
        path: of the file, which is written.
    """
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for start, stop in zip(clients.offsets, clients.offsets[1:], strict=False):
        writer.write(b"".join(array[start:stop].tobytes() for array in clients.arrays.values()))
    writer.close()
    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0")

    def load(numbers: np.ndarray) -> workload.Arrays:
        records, sizes = reader.read(numbers.tolist()), clients.sizes[numbers].tolist()
        starts, loaded = [0] * len(sizes), {}
        for name, array in clients.arrays.items():
            width = array[0].size
            parts = zip(records, sizes, starts, strict=True)
            loaded[name] = np.concatenate([np.frombuffer(record, array.dtype, size * width, at) for record, size, at in parts])
            loaded[name] = loaded[name].reshape(-1, *array.shape[1:])
            starts = [at + size * array[0].nbytes for at, size in zip(starts, sizes, strict=True)]
        return loaded

    return fe.data.Population.from_loader(load, clients.sizes)
