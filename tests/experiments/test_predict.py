"""From a table to a model to predictions, each with its program; and mistakes, which end with one line."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GroupKFold

from tests.experiments.test_programs import run

pytestmark = pytest.mark.slow
SMALL = {"width": 8, "tokens": 4, "members": 2}
QUICK = ("--config.rounds=2", "--config.chunk=2", "--config.pooled.epochs=1", "--config.local_only.epochs=1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A table, and the folder of a run on it."""
    folder = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    ability = rng.normal(size=300)
    table = pd.DataFrame(
        {
            "school": [f"School {number}" for number in rng.integers(0, 10, 300)],
            "before": 500 + 40 * ability,
            "sex": rng.choice(["f", "m"], 300),
            "prior": [f"{value:.2f}" if row % 30 else "-" for row, value in enumerate(ability)],
            "passed": np.where(ability + rng.normal(size=300) > 0, "yes", "no"),
            "score": 50 + 10 * ability + rng.normal(size=300),
        }
    )
    table.to_csv(folder / "students.csv", index=False)
    tasks = ("--client=school", "--task=passed:binary", "--task=score:regression")
    sizes = [f"--config.model.{name}={value}" for name, value in SMALL.items()]
    done = run("train", f"--csv={folder / 'students.csv'}", *tasks, *QUICK, *sizes, f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder


def test_predictions_of_held_out_rows_score_what_training_says(trained):
    table = pd.read_csv(trained / "students.csv")
    done = run("predict", f"--model={trained / 'run' / 'model'}", f"--csv={trained / 'students.csv'}", f"--out={trained / 'all.csv'}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = pd.read_csv(trained / "all.csv")
    assert found["client"].tolist() == table["school"].tolist()
    assert found["row"].tolist() == list(range(300))
    assert found["passed"].tolist() == np.where(found["passed probability"] >= 0.5, "yes", "no").tolist()
    scores = json.loads((trained / "run" / "final.json").read_text())["tasks"]
    held_out = _held_out(table)
    by_school = np.argsort(table["school"], kind="stable")
    order = by_school[held_out[by_school]]  # as the population has them: a sum depends on it
    passed, score = table["passed"][order] == "yes", table["score"].astype(np.float32)[order].astype(float)
    assert roc_auc_score(passed, found["passed probability"][order]) == scores["passed"]["held_out"]["federated"]["score"]
    assert r2_score(score, found["score"][order]) == scores["score"]["held_out"]["federated"]["score"]


def test_the_log_says_how_columns_are_taken_and_which_are_not_read(trained):
    log = (trained / "run" / "log.txt").read_text()
    assert log.startswith("client")
    assert "a number but for '-': leave such cells empty if they stand for nothing" in log
    assert "The network reads no texts, so without prior; config.model.texts of a multi-modal one reads them." in " ".join(log.split())


def _held_out(table):
    """Rows of fold 1, as scikit-learn draws it over schools in their order."""
    owner = pd.factorize(table["school"], sort=True)[0]
    _, tested = next(iter(GroupKFold(5).split(np.sort(owner), groups=np.sort(owner))))
    return np.isin(owner, np.sort(owner)[tested])


def test_new_rows_go_to_standard_output_and_remarks_do_not(trained):
    pd.DataFrame({"sex": ["x", "f"], "before": [None, 510.0], "school": ["Nowhere", "School 1"]}).to_csv(trained / "new.csv", index=False)
    done = run("predict", f"--model={trained / 'run' / 'model'}", f"--csv={trained / 'new.csv'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "row,client,passed,passed probability,score"
    assert [line.split(",")[:2] for line in done.stdout.splitlines()[1:]] == [["0", "Nowhere"], ["1", "School 1"]]
    assert "not seen count as missing: sex ('x')" in done.stderr


@pytest.mark.parametrize(
    ("model", "csv", "more", "message"),
    [
        ("", "students.csv", (), "ConfigError: model: got nothing; "),
        ("run/model", "other.csv", (), "DataError: table: got other inputs than the model was trained on; bring what it reads: before: "),
        ("run/model", "students.csv", ("--out={folder}/students.csv",), "ConfigError: out: got {folder}/students.csv; name another"),
    ],
)
def test_a_mistake_ends_the_program_with_one_line(trained, model, csv, more, message):
    (trained / "other.csv").write_text("school,sex\nSchool 1,f\n")
    paths = [f"--{flag}={trained / name}" for flag, name in (("model", model), ("csv", csv)) if name]
    done = run("predict", *paths, *(one.format(folder=trained) for one in more))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(message.format(folder=trained))
    assert "Traceback" not in done.stderr
