"""Plants one bug at a time in a copy of the package and shows which test turns red: ``python -m tests.mutation``.

Run by hand, not by pytest: a mutant takes half a minute. A mutant that no test catches is an error, and so is one whose line
is no longer there. Names given on the command line choose mutants.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SUITE, FORMS, LINKS = "tests/algorithms/test_suite.py", "tests/algorithms/test_closed_forms.py", "tests/aggregation"
WORLD = "tests/data/worlds"
HELD = "tests/algorithms/test_held_modules.py"
EXPORTS, RUN = "tests/study/test_exporting.py", "tests/study/run"


class Mutant(NamedTuple):
    """One planted bug.

    Args:
        bug: what is wrong.
        file: under fedjax_edu/.
        right: text of the file, that occurs once.
        wrong: what replaces it.
        tests: files that should notice.
        chosen: pytest's -k.
    """

    bug: str
    file: str
    right: str
    wrong: str
    tests: str
    chosen: str = ""


MUTANTS = (
    Mutant("population: NaN passes", "data/validation.py", "_check_finite(name, array, result, allow_nonfinite)", "pass", "tests/data"),
    Mutant("a level counts from the end", "data/builders/base.py", "(self.levels)})", "(self.levels[::-1])})", "tests/data/builders"),
    Mutant("a school is what its last row says", "data/builders/base.py", "[offsets[:-1]]", "[offsets[1:] - 1]", "tests/data/builders"),
    Mutant("Dirichlet: one over alpha", "data/partition.py", "np.full(clients, alpha)", "np.full(clients, 1 / alpha)", "tests/data"),
    Mutant(
        "split: a pupil on both sides",
        "data/splits.py",
        "return side[unit]",
        "return _draw_inside(clients, ids, fractions, seed)",
        "tests/data",
    ),
    Mutant(
        "split: the past after the future", "data/splits.py", "_without_conflicts(side, owner, block)[moment]", "side[moment]", "tests/data"
    ),
    Mutant("reader: a short row passes", "data/readers/files.py", "if len(row) != len(header):", "if False:", "tests/data/readers"),
    Mutant(
        "reader: rows of one attempt stay apart",
        "data/readers/interactions.py",
        "return table.iloc[first].reset_index(drop=True), Skills(own, table[skill], len(keys))",
        "return table.reset_index(drop=True), Skills(np.arange(len(table)), table[skill], len(table))",
        "tests/data/readers",
    ),
    Mutant("OULAD: the future is an input", "data/readers/oulad.py", '["date"] < cut', '["date"] <= cut', "tests/data/readers"),
    Mutant("Rubin's rules: B alone", "data/readers/plausible.py", "(1 + 1 / len(values)) * between", "between", "tests/data/readers"),
    Mutant("a padding row counts", "engine/drawing.py", "Rows(rows, position < examples)", "Rows(rows, position >= 0)", "tests/engine"),
    Mutant(
        "from_table: rows in the file's order",
        "data/tables.py",
        'np.argsort(owner, kind="stable")',
        "np.arange(len(owner))",
        "tests/data/test_tables.py",
    ),
    Mutant(
        "from_table: a missing yes or no is a no",
        "data/tables.py",
        "np.where(codes >= 0, codes, np.nan)",
        "codes",
        "tests/data/test_tables.py",
    ),
    Mutant(
        "from_table: an unknown level is the last",
        "data/tables.py",
        "known.get(str(word), -1)",
        "known.get(str(word), len(levels) - 1)",
        EXPORTS,
    ),
    Mutant(
        "studies: a school has the tasks of others",
        "data/studies/examples.py",
        "spread(position, known, False, np.bool_)",
        "spread(position, known, True, np.bool_)",
        "tests/data/test_studies.py tests/data/test_k12.py",
    ),
    Mutant("run: records after the checkpoint stay", "study/records.py", '"".join(self._lines()[:rounds])', '"".join(self._lines())', RUN),
    Mutant(
        "run: another configuration passes",
        "study/run.py",
        "if found is not None and found != self._identity:",
        "if False:",
        RUN,
        "another_run",
    ),
    Mutant(
        "run: lanes are measured again",
        "engine/engine.py",
        'min(lanes, share), reason="found best',
        'None, reason="found best',
        RUN,
        "lanes",
    ),
    Mutant("run: a signal leaves without saving", "study/run.py", "if asked or late or done", "if late or done", RUN, "signal"),
    Mutant(
        "run: two processes share a folder",
        "study/run_folder.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        RUN,
        "second_process",
    ),
    Mutant(
        "networks: a step's gap counts from a step that is missing",
        "study/networks/contents.py",
        "before = np.where(there, step.lag, before)",
        "before = np.full(len(rows), step.lag)",
        "tests/study/test_networks.py",
    ),
    Mutant(
        "networks: a feature stands under another's name",
        "study/networks/contents.py",
        "features[rows, place] = self.features.index(feature)",
        "features[rows, place] = place",
        "tests/study/test_networks.py",
    ),
    Mutant(
        "run: a removed folder is written to",
        "study/run_folder.py",
        "            self.check_ours()\n            with writing(self.path / name)",
        "            with writing(self.path / name)",
        RUN,
        "removed",
    ),
    Mutant(
        "run: results of a removed folder are written",
        "study/run_folder.py",
        "self.check_ours()\n            target",
        "target",
        RUN,
        "removed",
    ),
    Mutant(
        "run: a refused start is logged",
        "study/console.py",
        "if self._held is None:",
        "if True:",
        "tests/study/test_tracking.py",
        "printed",
    ),
    Mutant(
        "run: texts are no part of it", "study/identity.py", "sorted(population.texts.items())", "()", "tests/study/test_texts.py", "part"
    ),
    Mutant(
        "study: a signal in the last baseline is forgotten",
        "study/school_run.py",
        "        if asked := requests.signal:  # while",
        "        if asked := None:  # while",
        "tests/study/test_school_run.py",
        "last_baseline",
    ),
    Mutant(
        "study: overwriting leaves results",
        "study/school_run.py",
        "            folder.remove(*RESULTS)",
        "            pass",
        "tests/study/test_school_run.py",
        "overwriting",
    ),
    Mutant(
        "study: rows of other schools pass",
        "study/results.py",
        "if not same or",
        "if",
        "tests/study/test_federations.py",
        "other_rows",
    ),
    Mutant(
        "run: threads share a folder", "study/run_folder.py", "self._owner == threading.get_ident()", "self._owner", RUN, "second_thread"
    ),
    Mutant(
        "run: what a link leads to stays", "study/run_folder.py", "            _remove(inside)", "            pass", RUN, "another_disk"
    ),
    Mutant("run: unfinished folders stay", "study/checkpoints.py", 'self._sweep("*.orbax-checkpoint-tmp*")', "pass", RUN, "unfinished"),
    Mutant("run: the loss of a checkpoint is forgotten", "study/checkpoints.py", "best_fn=loss,", "", RUN, "best"),
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
    Mutant("new rows: codes of another table", "data/matching.py", "np.array([*place, -1], np.int32)[codes]", "codes.copy()", EXPORTS),
    Mutant(
        "new rows: files lose the words of categories",
        "study/exported.py",
        'if feature.kind != "number"])',
        "if False])",
        EXPORTS,
        "company",
    ),
    Mutant(
        "tables: words for no value are levels",
        "data/reading.py",
        "cell.strip() in MISSING",
        'cell.strip() == ""',
        "tests/data/test_tables.py",
    ),
    Mutant(
        "export: weights that did not stay are left out",
        "study/exporting.py",
        "name in still and np.array_equal(leaf, still[name])",
        "name in still",
        "tests/study/test_texts.py",
    ),
    Mutant(
        "export: files of others are replaced",
        "study/exporting.py",
        "sorted(names - _exported(place / CONFIG))",
        "[]",
        EXPORTS,
        "others or stranger",
    ),
    Mutant(
        "export: edited settings pass", "study/exporting.py", 'if config["digest"] != _digest_of(config):', "if False:", EXPORTS, "whole"
    ),
    Mutant("run: changed records pass", "study/records.py", "if digest not in (None, ", "if digest in (1, ", RUN, "record"),
    Mutant("run: records lost on the way pass", "study/records.py", "if is_first() and ", "if False and ", RUN, "records"),
    Mutant("run: a path that is a pattern", "study/checkpoints.py", 'if "[" in str(folder):', "if False:", RUN, "path"),
    Mutant("checkpoint: a loss that is none", "study/checkpoints.py", "if not isinstance(loss, float):", "if False:", RUN, "loss"),
    Mutant(
        "run: predictions of other versions are kept",
        "study/predictions.py",
        'if str(arrays.pop(VERSIONS, "")) == self._versions else None',
        'if arrays.pop(VERSIONS, "") is not None else None',
        "tests/study/test_school_run.py",
        "other_versions",
    ),
    Mutant("export: damage passes", "study/exporting.py", "!= digest:", "!= digest and False:", EXPORTS),
    Mutant("export: a row depends on its company", "study/exported.py", "tiles.TILE)", "min(tiles.TILE, len(inputs)))", EXPORTS, "wide"),
    Mutant(
        "study: ties count whole", "study/metrics.py", "np.where(difference == 0, 0.5,", "np.where(difference == 0, 1.0,", "tests/study"
    ),
    Mutant(
        "study: products of presence bits",
        "study/encoding.py",
        "own += [start] if feature.kind",
        "own += [start + 1] if feature.kind",
        "tests/study",
    ),
    Mutant(
        "tables: ties of a pair count whole",
        "study/school_sums.py",
        "(beaten[0] + beaten[1]) / 2",
        "beaten[1]",
        "tests/study/test_comparison.py",
    ),
    Mutant(
        "tables: differences are not paired",
        "study/comparison.py",
        "drawn[:, position] - drawn[:, base]",
        "drawn[:, position] - drawn[::-1, base]",
        "tests/study/test_comparison.py",
        "paired",
    ),
    Mutant(
        "tables: draws vary too little", "study/intervals.py", "* math.sqrt(schools / (schools - 1))", "", "tests/study/test_intervals.py"
    ),
    Mutant(
        "tables: Bonferroni for Holm", "study/intervals.py", "np.arange(len(order), 0, -1)", "len(order)", "tests/study/test_intervals.py"
    ),
    Mutant("tables: a penalty on the slope", "study/calibration.py", "C=np.inf", "C=0.01", "tests/study/test_calibration.py", "likelihood"),
    Mutant(
        "tables: ROC curves that cross",
        "study/fairness.py",
        "np.where(left * right < 0, crossing, total)",
        "total",
        "tests/study/test_fairness.py",
        "abroca",
    ),
    Mutant("tables: one hidden group", "study/fairness.py", "(len(hidden) < 2 or", "(False and", "tests/study/test_fairness.py", "hidden"),
    Mutant(
        "figures: fonts as outlines of Type 3",
        "study/figures.py",
        '"pdf.fonttype": 42',
        '"pdf.fonttype": 3',
        "tests/study/test_plots.py",
        "files",
    ),
    Mutant("encoder: sums for products", "models/ensemble.py", "left * right", "left + right", "tests/models"),
    Mutant(
        "multilevel: REML without the determinant of the fixed part",
        "study/multilevel/criterion.py",
        "deviance += np.linalg.slogdet(left[:-1, :-1])[1]",
        "pass",
        "tests/study/multilevel",
    ),
    Mutant(
        "multilevel: an unseen school gets another's effect",
        "study/multilevel/effects.py",
        "np.append(effects.effects, np.zeros((1, len(model.random))), axis=0)",
        "effects.effects",
        "tests/study/multilevel",
    ),
    Mutant(
        "study: scales see test schools",
        "study/schools.py",
        "Standardiser.fit(_rows(population, train))",
        "Standardiser.fit(population)",
        "tests/study",
    ),
    Mutant(
        "sizes count twice", "engine/checks.py", 'cohort.by_size and algorithm.weighting == "examples"', "False", "tests/test_bad_inputs.py"
    ),
    Mutant(
        "SCAFFOLD: sign of the correction",
        "algorithms/scaffold.py",
        "jnp.subtract, state.control, client.control",
        "jnp.subtract, client.control, state.control",
        FORMS,
        "scaffold",
    ),
    Mutant(
        "SCAFFOLD: cohort for population",
        "algorithms/scaffold.py",
        "scaled(1 / state.population)",
        "scaled(1 / aggregates['control'].weight)",
        SUITE,
        "scaffold and twin",
    ),
    Mutant(
        "SCAFFOLD: K for K_i",
        "algorithms/scaffold.py",
        "jnp.maximum(info.steps[-1] if",
        "jnp.maximum(jnp.int32(4) if",
        SUITE,
        "scaffold and twin",
    ),
    Mutant(
        "SCAFFOLD: the client keeps its old variate",
        "algorithms/scaffold.py",
        "ScaffoldClient(personal, control), weight",
        "ScaffoldClient(personal, own.control), weight",
        FORMS,
        "scaffold",
    ),
    Mutant(
        "FedDyn: sign of the memory", "algorithms/feddyn.py", "lambda h, total: h - total", "lambda h, total: h + total", FORMS, "feddyn"
    ),
    Mutant("FedDyn: g_k not updated", "algorithms/feddyn.py", "g - state.alpha.astype(g.dtype) * delta", "g", FORMS, "feddyn"),
    Mutant("FedNova: the effective length forgotten", "algorithms/fednova.py", "update.scaled(path)", "update", FORMS, "fednova"),
    Mutant("FedProx: pulled away", "algorithms/fedprox.py", "* (y - w)", "* (w - y)", FORMS, "fedprox"),
    Mutant(
        "Mime: statistics move on the client",
        "algorithms/mime.py",
        "training=own.training._replace(params=moved.params)",
        "training=moved",
        SUITE,
        "mime and twin",
    ),
    Mutant(
        "Mime: stale statistics",
        "algorithms/mime.py",
        "state._replace(statistics=statistics), observed",
        "state, observed",
        SUITE,
        "mime and twin",
    ),
    Mutant("FedYogi: sign", "algorithms/fedopt.py", "jnp.sign(v - square)", "jnp.sign(square - v)", SUITE, "fedyogi and twin"),
    Mutant(
        "FedAdam: second moment from zero",
        "algorithms/fedopt.py",
        "jnp.full_like(leaf, tau**2)",
        "jnp.zeros_like(leaf)",
        SUITE,
        "fedadam and twin",
    ),
    Mutant(
        "moments of idle modules decay",
        "algorithms/server.py",
        "jnp.where(trained.weight[owner] > 0, new, old)",
        "new",
        "tests/algorithms/test_server.py",
    ),
    Mutant(
        "FedBuff: history never moves",
        "algorithms/fedbuff.py",
        "jnp.concatenate([new[None], old[:-1]])",
        "old",
        "tests/engine/test_asynchronous.py",
        "twin",
    ),
    Mutant(
        "IFCA: the worst cluster",
        "algorithms/ifca.py",
        "jnp.argmin(jnp.where(jnp.isnan",
        "jnp.argmax(jnp.where(jnp.isnan",
        SUITE,
        "ifca and twin",
    ),
    Mutant("q-FFL: weight used twice", "algorithms/qffl.py", "share * power)", "share * power * power)", SUITE, "qffl and twin"),
    Mutant(
        "AFL: the simplex sums to two",
        "algorithms/afl.py",
        "falling), falling, 0)) - 1",
        "falling), falling, 0)) - 2",
        SUITE,
        "afl and twin",
    ),
    Mutant("TERM: exponents from the wrong risk", "algorithms/term.py", "found = state.risk + jnp.log", "found = jnp.log", FORMS, "tilted"),
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
    Mutant(
        "a pass draws what training draws",
        "engine/drawing.py",
        "ClientPurpose.PASS, number",
        "ClientPurpose.STEP, 0",
        "tests/algorithms/test_behind_links.py",
    ),
    Mutant("clip: short updates are stretched", "aggregation/clip.py", "size > norm, (leaf", "size > 0, (leaf", f"{LINKS}/test_links.py"),
    Mutant("Krum: one neighbour too many", "aggregation/krum.py", "count - f - 2)", "count - f - 1)", f"{LINKS}/test_rules.py", "krum"),
    Mutant(
        "stack: weight used twice",
        "core/stack.py",
        "weights.astype(dtype) * leaf.astype(dtype), jnp",
        "weights.astype(dtype) ** 2 * leaf.astype(dtype), jnp",
        f"{LINKS}/test_stack.py",
        "fedavg or sum",
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
        "channel.shared(work.modules, info.share) if work.partly else channel",
        "channel",
        HELD,
        "fedavg-examples",
    ),
    Mutant(
        "holding: sums are divided by everybody",
        "core/algorithm.py",
        "weights * self.holds.get(name, 1.0)",
        "weights",
        HELD,
        "scaffold-examples or feddyn-uniform",
    ),
    Mutant("holding: predictions use more", "engine/tiles.py", "if modules is not None and tile.holds:", "if False:", HELD, "predictions"),
    Mutant(
        "holding: bytes of everybody", "engine/lanes.py", "totals.holders + held.astype(jnp.int32)", "totals.holders + 1", HELD, "bytes"
    ),
    Mutant(
        "holding: each lane decides what to run",
        "models/multimodal.py",
        "lax.cond(_anywhere(content.present.any()),",
        "lax.cond(content.present.any(),",
        "tests/models/test_m3t.py",
        "lanes_share",
    ),
    Mutant(
        "world: what is old counts as fresh", "data/worlds/posterior.py", "kept[kept < 1]", "kept[kept < 0]", WORLD, "calibrated or normal"
    ),
    Mutant(
        "world: all digits are as clear",
        "data/worlds/contents.py",
        "DIGIT_NOISE / quality)[..., None]",
        "DIGIT_NOISE)[..., None]",
        WORLD,
        "likely",
    ),
    Mutant(
        "world: an effect that nobody saw", "data/worlds/world.py", "mean = np.where(known, ", "mean = np.where(True, ", WORLD, "nothing"
    ),
)


def planted(mutant: Mutant, place: Path) -> Path:
    """A copy of the repository with the bug; its package finds its kernels as an installed one does."""
    copy = place / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "runs", "__pycache__", "*.egg-info"))
    if not (copy / "fedjax_edu/kernels").exists():
        (copy / "fedjax_edu/kernels").symlink_to(copy / "kernels")
    file = copy / "fedjax_edu" / mutant.file
    text = file.read_text()
    if text.count(mutant.right) != 1:
        sys.exit(f"{mutant.bug}: {mutant.right!r} occurs {text.count(mutant.right)} times in {mutant.file}; adapt the mutant")
    file.write_text(text.replace(mutant.right, mutant.wrong))
    return copy


def caught_by(mutant: Mutant) -> str | None:
    """The first test that fails on the mutant, or None."""
    with tempfile.TemporaryDirectory() as place:
        copy = planted(mutant, Path(place))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *mutant.tests.split()]
        command += ["-k", mutant.chosen] if mutant.chosen else []
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    red = [line.removeprefix("FAILED ").split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode != 1 or not red:
        sys.exit(f"{mutant.bug}: no test ran or failed\n{done.stdout[-2000:]}")
    return red[0]


def main(names: list[str]) -> None:
    """Runs the mutants whose description contains one of the names, or all."""
    survivors = 0
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.bug for name in names)]
    if not chosen:
        sys.exit(f"no mutant is called {' or '.join(names)}; there are\n" + "\n".join(mutant.bug for mutant in MUTANTS))
    for mutant in chosen:
        red = caught_by(mutant)
        survivors += red is None
        print(f"{mutant.bug}: {red or 'SURVIVED'}", flush=True)
    sys.exit(f"{survivors} mutants survived" if survivors else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
