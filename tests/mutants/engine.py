"""The engine, what it runs on, and models."""

from tests.mutants.mutant import Mutant

SUITE = "tests/algorithms/test_suite.py"
LINKS = "tests/aggregation"
HELD = "tests/algorithms/test_held_modules.py"
RUN = "tests/study/run"

MUTANTS = (
    Mutant("a padding row counts", "engine/drawing.py", "Rows(rows, position < examples)", "Rows(rows, position >= 0)", "tests/engine"),
    Mutant(
        "run: lanes are measured again",
        "engine/engine.py",
        'min(lanes, share), reason="found best',
        'None, reason="found best',
        RUN,
        "lanes",
    ),
    Mutant(
        "processes: every process evaluates all clients",
        "engine/engine.py",
        "return self.layout.mesh.is_multi_process and population",
        "return False and population",
        "tests/engine/test_processes.py",
        "two",
    ),
    Mutant(
        "processes: the last comes first",
        "engine/processes.py",
        "zip(multihost_utils.process_allgather(room), counts, strict=True)",
        "zip(multihost_utils.process_allgather(room)[::-1], counts[::-1], strict=True)",
        "tests/engine/test_processes.py",
        "two",
    ),
    Mutant(
        "processes: all measure lanes",
        "engine/processes.py",
        "measure() if jax.process_index() == 0 else 0",
        "measure()",
        "tests/engine/test_processes.py",
        "two",
    ),
    Mutant(
        "sizes count twice", "engine/checks.py", 'cohort.by_size and algorithm.weighting == "examples"', "False", "tests/test_bad_inputs.py"
    ),
    Mutant(
        "a pass draws what training draws",
        "engine/drawing.py",
        "ClientPurpose.PASS, number",
        "ClientPurpose.STEP, 0",
        "tests/algorithms/test_behind_links.py",
    ),
    Mutant(
        "key by position",
        "engine/rounds.py",
        "fold(key, client, number))(resident.ids[rows])",
        "fold(key, client, number))(rows.astype(jnp.uint32))",
        SUITE,
        "fedavg-examples and without_examples",
    ),
    Mutant(
        "a rejected client's state is written",
        "engine/rounds.py",
        "kept = jnp.where(present & ~rejected, seats.slot",
        "kept = jnp.where(present, seats.slot",
        SUITE,
        "scaffold-examples and rejected",
    ),
    Mutant(
        "model axis: a turn without effect takes a client from the queue",
        "engine/lanes.py",
        "jnp.where(here, 1, 0)",
        "1",
        "tests/engine/test_model_axis.py",
        "results and whole",
    ),
    Mutant(
        "model axis: what clients keep is whole on every device",
        "engine/partition.py",
        "shape[len(shape) - len(part.shape) :] == part.shape",
        "shape == part.shape",
        "tests/engine/test_model_axis.py",
        "slice",
    ),
    Mutant(
        "model axis: a phase without steps takes no tick",
        "engine/timetable.py",
        "jnp.maximum(steps, 1)",
        "steps",
        "tests/engine/test_model_axis.py",
        "advance",
    ),
    Mutant(
        "asynchronous: steps of the server do not count",
        "engine/cohorts/asynchronous.py",
        "clock.version + feedback.applied.astype(jnp.int32)",
        "clock.version",
        "tests/engine/test_asynchronous.py",
    ),
    Mutant(
        "holding: a client sees what it does not hold",
        "engine/lanes.py",
        "(work.modules.keep_held(own, queue.info.held[at]) if work.partly else own), own_links",
        "own, own_links",
        HELD,
        "fedprox",
    ),
    Mutant(
        "holding: a client sends what it does not hold",
        "engine/lanes.py",
        "channel.shared(work.modules, info.share) for name",
        "channel for name",
        HELD,
        "fedavg-examples",
    ),
    Mutant(
        "holding: predictions use more",
        "engine/tiles.py",
        "if models.modules is not None and tile.holds:",
        "if False:",
        HELD,
        "predictions",
    ),
    Mutant(
        "holding: bytes of everybody", "engine/lanes.py", "totals.holders + held.astype(jnp.int32)", "totals.holders + 1", HELD, "bytes"
    ),
    Mutant(
        "stack: weight used twice",
        "core/stack.py",
        "weights.astype(dtype) * leaf.astype(dtype), jnp",
        "weights.astype(dtype) ** 2 * leaf.astype(dtype), jnp",
        f"{LINKS}/test_stack.py",
        "fedavg or sum",
    ),
    Mutant(
        "holding: sums are divided by everybody",
        "core/algorithm.py",
        "weights * self.holds.get(name, 1.0)",
        "weights",
        HELD,
        "scaffold-examples or feddyn-uniform",
    ),
    Mutant(
        "residual not scattered",
        "aggregation/error_feedback.py",
        "jnp.where(weighed, rest, kept[leaf])",
        "kept[leaf]",
        f"{LINKS}/test_compression.py",
    ),
    Mutant("QSGD: always rounded down", "aggregation/quantise.py", "< height - below", "< 0 * height", f"{LINKS}/test_compression.py"),
    Mutant(
        "FLTrust: weight of the trusted alone",
        "aggregation/fltrust.py",
        "found * (jnp.sum(weights) /",
        "found * (jnp.sum(found) /",
        "tests/algorithms/test_behind_links.py",
    ),
    Mutant("clip: short updates are stretched", "aggregation/clip.py", "size > norm, (leaf", "size > 0, (leaf", f"{LINKS}/test_links.py"),
    Mutant("Krum: one neighbour too many", "aggregation/krum.py", "count - f - 2)", "count - f - 1)", f"{LINKS}/test_rules.py", "krum"),
    Mutant("encoder: sums for products", "models/ensemble.py", "left * right", "left + right", "tests/models"),
    Mutant(
        "holding: each lane decides what to run",
        "models/multimodal.py",
        "lax.cond(_anywhere(content.present.any()),",
        "lax.cond(content.present.any(),",
        "tests/models/test_m3t.py",
        "lanes_share",
    ),
)
