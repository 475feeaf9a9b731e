"""Thirty-two runs of the main job: as members of one, one after another in a process, as processes."""

import concurrent.futures
import tempfile

from experiments.benchmarks import members
from experiments.benchmarks.fresh import in_fresh_process
from experiments.benchmarks.measure import Spread, clock, interleave, spread
from experiments.benchmarks.results import Measured, Options, Panel, Table, seconds, with_spread

MEMBERS = 32
ROUNDS = 3  # of the comparison inside a process, which compiles nothing
WHOLE_ROUNDS = 10  # of a run from the start of its process on
PROCESSES = 3  # repeats, each of one process and of two at a time


def sweeping(options: Options) -> Measured:
    """Members against the same runs one after another, with everything compiled, and against processes, from start to end."""
    inside, gap = in_one_process(options)
    whole = as_processes(options)
    one_by_one = min(MEMBERS * whole["one process"].median, MEMBERS / 2 * whole["two processes"].median)
    figures = {
        "sweep/one after another over members": inside["one after another"].median / inside["members"].median,
        "sweep/processes over members": one_by_one / whole["members"].median,
        "sweep/gap of members": gap,
    }
    each = {"members": 1.0, "one process": MEMBERS, "two processes": MEMBERS / 2}
    first = tuple((name, f"{ROUNDS} rounds, compiled", with_spread(one), seconds(one.median)) for name, one in inside.items())
    last = tuple(
        (name, f"{WHOLE_ROUNDS} rounds, from start to end", with_spread(one), seconds(each[name] * one.median))
        for name, one in whole.items()
    )
    note = "Processes find compiled programs in a cache, members do not. Runs that keep all lanes busy by themselves gain little from "
    note += "company: what members save is starting, preparing data and compiling, and the longer a run, the less that is of it."
    return Measured(
        measurements={"sweep": {name: one._asdict() for name, one in (inside | whole).items()}},
        figures=figures,
        tables=(
            Table(f"A sweep of {MEMBERS} runs of the main job", ("how", "what", "median [quartiles]", "all runs"), first + last, note),
        ),
        panels=(Panel("Compiled runs", "seconds", inside),),
    )


def in_one_process(options: Options) -> tuple[dict[str, Spread], float]:
    """Seconds of all runs, as members and one after another, and the largest gap between a member and its lone run."""
    options.say("members and lone runs")
    engine, start = members.federation()
    count = MEMBERS, ROUNDS
    gap = members.gap(members.together(engine, start, *count), members.alone(engine, start, *count))
    works = {
        "members": lambda: [clock(lambda: members.together(engine, start, *count))],
        "one after another": lambda: [clock(lambda: members.alone(engine, start, *count))],
    }
    return {name: spread(found) for name, found in interleave(works, options.repeats).items()}, gap


def as_processes(options: Options) -> dict[str, Spread]:
    """Seconds of a process with all members, of one with a single run, and of two such processes side by side."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

        def run(count: int) -> None:
            in_fresh_process(options, "members", count, WHOLE_ROUNDS, **cache)

        def two() -> None:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                list(pool.map(run, (1, 1)))

        together = clock(lambda: run(MEMBERS))
        run(1)  # fills the cache
        works = {"one process": lambda: [clock(lambda: run(1))], "two processes": lambda: [clock(two)]}
        found = interleave(works, min(options.repeats, PROCESSES))
    return {"members": spread([together])} | {name: spread(times) for name, times in found.items()}
