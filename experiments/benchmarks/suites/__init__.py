"""Each suite is a tuple of parts: functions from options to what they measured, one after another."""

from experiments.benchmarks.results import Part
from experiments.benchmarks.suites import cpu, peers, scaling

SUITES: dict[str, tuple[Part, ...]] = {"cpu": cpu.PARTS, "scaling": scaling.PARTS, "peers": peers.PARTS}
