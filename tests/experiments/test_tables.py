"""The flags of a user's own table."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import fedjax_edu as fe
from experiments import tables


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [f"{'abc'[row % 3]},{rng.normal():.3f},{rng.integers(3)},{'fm'[row % 2]},{row % 2},{rng.normal():.3f}" for row in range(40)]
    file = tmp_path_factory.mktemp("table") / "students.csv"
    file.write_text("\n".join(["school,ses,a:b,sex,passed,score:raw", *rows]))
    return str(file)


def given(**values):
    """The population of flags."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**values):
        return tables.population()


def test_flags_describe_a_population_and_columns_may_have_colons(path, capsys):
    found = given(
        csv=path,
        client="school",
        task=["passed:binary", "score:raw:regression"],
        input=["ses", "a:b", "sex:category"],
        group=["sex:sex"],
    )
    assert [(task.name, task.kind) for task in found.schema.tasks] == [("passed", "binary"), ("score:raw", "regression")]
    assert [(feature.name, feature.kind) for feature in found.schema.features] == [
        ("ses", "number"),
        ("a:b", "number"),
        ("sex", "category"),
    ]
    assert found.schema.groups == {"sex": ("sex",)}
    assert capsys.readouterr().out.startswith("client            school     3 clients, 40 rows\n")
    assert given(csv=path, client="school", task=["passed:binary"], input=["a:b:category"]).schema.features[0].kind == "category"
    assert given() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client": ""}, r"^client: got nothing; name the column"),
        ({"task": []}, r"^task: got nothing; name a column to predict"),
        ({"task": ["passed"]}, r"^task: got passed; write two words with a colon between them; --task is COLUMN:binary"),
        ({"task": ["passed:"]}, r"^task: got passed; write two words"),
        ({"task": [":binary"]}, r"^task: got binary; write two words"),
        ({"task": ["passed:yes-no"]}, r"^tasks\.passed: got yes-no; use one of binary, regression"),
        ({"task": ["passed:binary", "passed:regression"]}, r"^task: got passed twice; give it once"),
        ({"input": ["ses:numeric"]}, r"^inputs: got ses:numeric; use a column of the table"),
        ({"group": ["sex"]}, r"^group: got sex; write two words"),
        ({"group": ["sex:sex", "sex:ses"]}, r"^group: got sex twice; give it once"),
        ({"csv": ""}, r"^client: got school; name the table too"),
    ],
)
def test_a_mistake_names_its_flag(path, changes, message):
    with pytest.raises(fe.errors.ArgumentError, match=message):
        given(**{"csv": path, "client": "school", "task": ["passed:binary"]} | changes)
