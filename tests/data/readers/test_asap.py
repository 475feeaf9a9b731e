"""ASAP: essays as they were written, raw scores, a task for each prompt."""

import numpy as np

from fedjax_edu.data.readers import asap
from tests.data.readers import public_files


def test_essays_and_scores(tmp_path):
    population = asap(public_files.asap(tmp_path))
    arrays, texts = population.arrays, population.texts
    assert texts["essay_set"] == ("1", "2", "8")
    assert population.offsets.tolist() == [0, 2, 3, 4]
    assert [texts["essay"][position] for position in arrays["texts"]["essay"]] == [
        "Dear local newspaper, caf\u00e9",
        'Dear @CAPS1 @CAPS2, it\u2019s "great"',
        '"Books" on the shelves, "I say',
        '"A long" "essay"',
    ]
    assert [task.name for task in population.schema.tasks] == ["set1_domain1", "set2_domain1", "set2_domain2", "set8_domain1"]
    targets = np.stack(list(arrays["targets"].values()), axis=1)
    assert targets.tolist() == [[8, 0, 0, 0], [9, 0, 0, 0], [0, 4, 3, 0], [0, 0, 0, 34]]
    present = np.stack([arrays["present"][task.name] for task in population.schema.tasks], axis=1)
    np.testing.assert_array_equal(present, targets > 0)
    assert arrays["raters"].tolist() == [[4, 4], [5, 4], [4, 4], [17, -1]]
    assert population.schema.unit is None


def test_raters_are_optional(tmp_path):
    """A copy with the four columns that all copies have."""
    path = public_files.asap(tmp_path) / "training_set_rel3.tsv"
    rows = [line.split("\t") for line in path.read_text(encoding="cp1252").splitlines()]
    wanted = [rows[0].index(name) for name in ("essay_id", "essay_set", "essay", "domain1_score")]
    path.write_text("\n".join("\t".join(row[position] for position in wanted) for row in rows), encoding="utf-8")
    population = asap(path)
    assert "raters" not in population.arrays
    assert [task.name for task in population.schema.tasks] == ["set1_domain1", "set2_domain1", "set8_domain1"]
    assert population.texts == asap(public_files.asap(tmp_path)).texts
