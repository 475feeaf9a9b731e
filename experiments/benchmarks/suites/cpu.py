"""What the engine does on this machine by itself."""

import dataclasses

import numpy as np

from experiments.benchmarks import workload
from experiments.benchmarks.measure import matmul_peak
from experiments.benchmarks.results import Measured, Options, Panel, Part, Table, megabytes, seconds, with_spread
from experiments.benchmarks.timing import Runner, Timing, rounds_a_repeat, time_all

LANES = ("auto", 1, 2, 4, 8, 16, 32)
LANES_COHORT = 64  # on two devices there is work for 32 lanes each
LANES_CLIENTS = 256
SMALL = 16


def speed(options: Options) -> Measured:
    """Rounds of FedAvg and SCAFFOLD: seconds, share of the matmul peak, compile seconds, bytes."""
    options.say("matmul peak")
    peaks = matmul_peak()
    peak = max(peaks.values())
    timings = {(model, cohort): rounds(options, model, cohort) for model, cohort in _cases(options)}
    figures: dict[str, float] = {}
    for (model, cohort), found in timings.items():
        figures[f"{model}/{cohort}/share of peak"] = found["fedavg"].flops_per_second / peak
        if "scaffold" in found:
            figures[f"{model}/{cohort}/scaffold over fedavg"] = found["scaffold"].round.median / found["fedavg"].round.median
    named = {f"{model}, {cohort}, {name}": timing for (model, cohort), found in timings.items() for name, timing in found.items()}
    return Measured(
        measurements={"matmul peak": peaks, "speed": {name: dataclasses.asdict(timing) for name, timing in named.items()}},
        figures=figures,
        tables=(peak_table(peaks), speed_table(named, peak)),
        panels=tuple(_panel(model, named) for model in options.models),
    )


def _panel(model: str, timings: dict[str, Timing]) -> Panel:
    return Panel(f"A round, {model}", "seconds", {name: one.round for name, one in timings.items() if name.startswith(model)})


def _cases(options: Options) -> list[tuple[str, int]]:
    """MLPs at every cohort; the dear models at the smallest."""
    cases = [("mlp", cohort) for cohort in options.cohorts] + [(model, min(options.cohorts)) for model in ("cnn", "transformer")]
    return [(model, cohort) for model, cohort in cases if model in options.models]


def rounds(options: Options, model: str, cohort: int) -> dict[str, Timing]:
    """Rounds of FedAvg, and of SCAFFOLD where the model is an MLP."""
    options.say(f"{model}, cohort {cohort}")
    clients, count = workload.make(model), rounds_a_repeat(model, cohort)
    algorithms = ("fedavg", "scaffold") if model == "mlp" else ("fedavg",)
    runners = {name: Runner(clients, cohort, count, algorithm=name) for name in algorithms}
    return time_all(runners, model, options.repeats, memory=True)


def peak_table(peaks: dict[int, float]) -> Table:
    """What :func:`matmul_peak` found."""
    rows = tuple((str(size), f"{peak / 1e9:.1f}") for size, peak in peaks.items())
    return Table("Square float32 matrix products on all cores", ("n", "GFLOP/s"), rows)


def speed_table(timings: dict[str, Timing], peak: float) -> Table:
    """A row for each timing, named by model, cohort and algorithm."""
    rows = tuple(
        (
            name,
            with_spread(one.round),
            seconds(one.round.minimum),
            f"{one.examples / one.round.median:,.0f}",
            f"{one.flops_per_second / 1e9:.1f}",
            f"{one.flops_per_second / peak:.0%}",
            f"{one.lanes}",
            f"{one.utilisation:.2f}",
            seconds(one.compile_seconds),
            megabytes(one.memory["peak"]),
        )
        for name, one in timings.items()
    )
    columns = ("model, cohort, algorithm", "round, median [quartiles]", "least", "examples/s", "GFLOP/s", "of peak", "lanes", "in use")
    note = "Padded work does not count. Bytes are the compiler's: temporaries, state and results on a device, the population left out."
    return Table("Rounds", (*columns, "compile", "peak bytes"), rows, note)


def lanes(options: Options) -> Measured:
    """``lanes="auto"`` against every number of lanes."""
    timings = {model: _lanes(options, model) for model in options.models}
    figures, rows = {}, []
    for model, found in timings.items():
        best = min(one.round.median for name, one in found.items() if name != "auto")
        figures[f"lanes/{model}/auto over the best"] = found["auto"].round.median / best
        cells = (seconds(one.round.median) for one in found.values())
        rows.append((model, *cells, f"{found['auto'].lanes}", f"{figures[f'lanes/{model}/auto over the best']:.2f}"))
    columns = ("model", *(f"{count}" for count in LANES), "auto takes", "over the best")
    named = {f"{model}, {name}": one for model, found in timings.items() for name, one in found.items()}
    return Measured(
        measurements={"lanes": {name: dataclasses.asdict(one) for name, one in named.items()}},
        figures=figures,
        tables=(Table(f"Seconds of a round by lanes of a device, cohort {LANES_COHORT}", columns, tuple(rows)),),
        panels=tuple(Panel(f"Lanes, {model}", "seconds", {k: one.round for k, one in found.items()}) for model, found in timings.items()),
    )


def _lanes(options: Options, model: str) -> dict[str, Timing]:
    options.say(f"lanes, {model}")
    clients, rounds = workload.make(model, clients=LANES_CLIENTS), rounds_a_repeat(model, LANES_COHORT)
    runners = {str(count): Runner(clients, LANES_COHORT, rounds, lanes=count) for count in LANES}
    return time_all(runners, model, options.repeats)


def losing(options: Options) -> Measured:
    """Where lanes cannot help: one giant client beside small ones, against the same examples dealt evenly."""
    options.say("a giant client")
    runners = {name: Runner(_dealt(sizes), len(sizes), rounds=4) for name, sizes in giant().items()}
    timings = time_all(runners, "mlp", options.repeats)
    rows = tuple(
        (name, with_spread(one.round), f"{one.flops_per_second / 1e9:.1f}", f"{one.utilisation:.2f}") for name, one in timings.items()
    )
    title = f"A losing case: {len(giant()['giant'])} clients, {giant()['giant'].sum():,} examples"
    note = "A client is trained by one lane of one device, whatever its size; the others wait for it."
    return Measured(
        measurements={"losing": {name: dataclasses.asdict(one) for name, one in timings.items()}},
        figures={"losing/giant over even": timings["giant"].round.median / timings["even"].round.median},
        tables=(Table(title, ("sizes", "round, median [quartiles]", "GFLOP/s", "in use"), rows, note),),
        panels=(Panel("A giant client", "seconds", {name: one.round for name, one in timings.items()}),),
    )


def giant() -> dict[str, np.ndarray]:
    """Sizes of 64 clients: 63 small ones and one that has as much as all of them, or all the same."""
    uneven = np.array([*[SMALL] * 63, SMALL * 65])
    return {"giant": uneven, "even": np.full(64, uneven.sum() // 64)}


def _dealt(sizes: np.ndarray) -> workload.Workload:
    """The first examples of the workload, dealt to clients of these sizes."""
    whole, total = workload.make("mlp", clients=64), sizes.sum()
    arrays = {name: array[:total] for name, array in whole.arrays.items()}
    return workload.Workload("mlp", arrays, np.concatenate([[0], np.cumsum(sizes)]), whole.held_out)


PARTS: tuple[Part, ...] = (speed, lanes, losing)
