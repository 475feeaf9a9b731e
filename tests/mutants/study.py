"""Runs, tables and what is exported."""

from tests.mutants.mutant import Mutant

EXPORTS = "tests/study/test_exporting.py"
RUN = "tests/study/run"
CHECKSUMS = "tests/study/test_checksums.py"

MUTANTS = (
    Mutant("run: records after the checkpoint stay", "study/records.py", '"".join(self._lines()[:rounds])', '"".join(self._lines())', RUN),
    Mutant(
        "run: another configuration passes",
        "study/run.py",
        "if found is not None and found != self._identity:",
        "if False:",
        RUN,
        "another_run",
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
        "new rows: files lose the words of categories",
        "study/exported.py",
        'if feature.kind != "number"]',
        "if False]",
        EXPORTS,
        "company",
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
        "checkpoint: checksums that nobody compares",
        "study/checkpoints.py",
        'if damaged := [name for name, known in facts.get("checksums", {}).items() if found_sums.get(name) != known]:',
        "if damaged := []:",
        CHECKSUMS,
    ),
    Mutant(
        "checksums: places do not count",
        "study/checksums.py",
        "bits * (place * _ODD | np.uint64(1))",
        "bits * (place * 0 | np.uint64(1))",
        CHECKSUMS,
    ),
    Mutant(
        "study: a pupil who moved is trained on",
        "study/schools.py",
        "return train.select_examples(~known)",
        "return train",
        "tests/study/test_schools.py",
        "elsewhere",
    ),
    Mutant(
        "export: a label of what is no number",
        "study/exported.py",
        "inside[:, position] & np.isfinite(decoded[:, position])",
        "inside[:, position]",
        EXPORTS,
        "label",
    ),
)
