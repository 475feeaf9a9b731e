"""Very many clients: made on the spot, or with a head of their own on the host."""

from experiments.benchmarks import heads
from experiments.benchmarks.fresh import in_fresh_process
from experiments.benchmarks.measure import spread
from experiments.benchmarks.results import Measured, Options, Panel, Table, megabytes, seconds, with_spread

MANY, FEW = 1_000_000, 10_000
WITH_HEADS = 100_000
OUTPUTS = 32


def lazy_clients(options: Options) -> Measured:
    """A million lazy clients, each visited once, beside ten thousand that are visited as often in all."""
    found = in_fresh_process(options, "lazy", MANY, FEW)
    each = {f"{count:,} clients": spread(found[name]) for name, count in (("many", MANY), ("few", FEW))}
    many, few = each.values()
    figures = {"lazy clients/cost over few": many.median / few.median}
    known = {name: found[name] for name in ("peak", "resident") if None not in found[name]}
    if known:
        figures["lazy clients/memory, end over a tenth"] = max(sizes[-1] / sizes[0] for sizes in known.values())
    rows = tuple((name, with_spread(one), seconds(one.minimum), f"{one.median / few.median:.2f}") for name, one in each.items())
    note = f"Peak memory after a tenth {megabytes(found['peak'][0])}, in the end {megabytes(found['peak'][-1])}. "
    note += "Each client is made when its round comes, and took part exactly as often as it should: each counted its own steps."
    return Measured(
        measurements={"lazy clients": found},
        figures=figures,
        tables=(Table("Lazy clients", ("population", "a visit, median [quartiles]", "least", "over few"), rows, note),),
        panels=(Panel("A visit to a lazy client", "seconds", each),),
    )


def personal_heads(options: Options) -> Measured:
    """Heads of a hundred thousand clients on the host, against those of a tenth of them."""
    counts = (WITH_HEADS, WITH_HEADS // 10)
    every, tenth = runs = [in_fresh_process(options, "heads", count, OUTPUTS) for count in counts]
    figures = {"personal heads/device bytes over those of a tenth": every["device"] / tenth["device"]}
    if None not in (every["resident"][-1], tenth["resident"][-1]):
        beyond = every["resident"][-1] - tenth["resident"][-1]
        figures["personal heads/resident bytes of a byte of heads"] = beyond / (every["heads"] - tenth["heads"])
    found = {f"{count:,} clients": run for count, run in zip(counts, runs, strict=True)}
    each = {name: spread(one["seconds"]) for name, one in found.items()}
    rows = tuple(
        (
            name,
            with_spread(each[name]),
            *(megabytes(size) for size in (one["heads"], one["device"], one["resident"][-1], one["peak"])),
        )
        for name, one in found.items()
    )
    columns = ("population", "a client, median [quartiles]", "all heads", "on a device", "resident", "peak")
    note = (
        "A device holds the heads of a chunk's clients. A run leaves its argument as it was, so that all heads are there twice meanwhile."
    )
    return Measured(
        measurements={"personal heads": found},
        figures=figures,
        tables=(Table(f"Personal heads of {heads.HIDDEN * OUTPUTS:,} numbers on the host", columns, rows, note),),
        panels=(Panel("A client with a head of its own", "seconds", each),),
    )
