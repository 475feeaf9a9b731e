"""How data are read, checked and divided."""

from tests.mutants.mutant import Mutant

WORLD = "tests/data/worlds"
EXPORTS = "tests/study/test_exporting.py"

MUTANTS = (
    Mutant("population: NaN passes", "data/validation.py", "_check_finite(name, array, result, allow_nonfinite)", "pass", "tests/data"),
    Mutant("a level counts from the end", "data/builders/base.py", "(self.levels)})", "(self.levels[::-1])})", "tests/data/builders"),
    Mutant("a school is what its last row says", "data/builders/base.py", "[offsets[:-1]]", "[offsets[1:] - 1]", "tests/data/builders"),
    Mutant("Dirichlet: one over alpha", "data/partition.py", "np.full(clients, alpha)", "np.full(clients, 1 / alpha)", "tests/data"),
    Mutant(
        "split: a pupil on both sides",
        "data/splits.py",
        "return place[unit], total[unit]",
        "return _draw_inside(clients, ids, seed)",
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
    Mutant("new rows: codes of another table", "data/matching.py", "np.array([*place, -1], np.int32)[codes]", "codes.copy()", EXPORTS),
    Mutant(
        "tables: words for no value are levels",
        "data/reading.py",
        "cell.strip() in MISSING",
        'cell.strip() == ""',
        "tests/data/test_tables.py",
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
    Mutant(
        "tables: 007 is 7",
        "data/tables.py",
        'return str(value).strip().removesuffix(" 00:00:00")',
        'return str(value).strip().lstrip("0")',
        "tests/data/test_tables.py",
        "names",
    ),
    Mutant(
        "completing: learnt from rows that lack what others have",
        "data/completing.py",
        "for one in (*given, name)",
        "for one in (name,)",
        "tests/data/test_completing.py",
    ),
    Mutant(
        "newcomers: one row too many",
        "data/population.py",
        "self.select_examples(place < count)",
        "self.select_examples(place <= count)",
        "tests/data/test_splits.py",
    ),
)
