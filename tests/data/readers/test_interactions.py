"""Logs of answers: one row an attempt with all its skills, in order, whatever the order of the file."""

import random
from collections import defaultdict

import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data import readers
from tests.data.readers import public_files

LOGS = ("assistments2009", "assistments2012", "assistments2015", "assistments2017", "ednet_kt1", "slp", "kdd_cup")
# What stands in the files of tests/data/readers/public_files.py: client, student, question, skills, right, time.
EXPECTED = {
    "assistments2009": [
        ("73", "64525", "51424", {"1"}, 1, 33022537),
        ("73", "64525", "51425", set(), 0, 33139416),
        ("73", "64526", "51424", {"1", "277", "280"}, 1, 33100000),
        ("2770", "64525", "51426", {"277"}, 1, 33150000),
        ("2770", "70363", "51435", {"277", "280"}, 0, 35450204),
        ("2770", "70363", "51435", {"277"}, 1, 35450295),
    ],
    "assistments2012": [
        ("5", "61395", "426416", set(), 1, 129),
        ("6", "61394", "426415", {"310", "311"}, 0, 0),
        ("6", "61394", "426415", {"310"}, 1, 9),
    ],
    "assistments2015": [
        ("50121", "50121", "7016", {"7016"}, 1, 167478000),
        ("50121", "50121", "7014", {"7014"}, 0, 167478035),
        ("50121", "50121", "7014", {"7014"}, 1, 167478043),
        ("50122", "50122", "7016", {"7016"}, 1, 167478053),
    ],
    "assistments2017": [
        ("1", "35", "1118", {"sum-of-interior-angles-more-than-3-sides"}, 0, 151),
        ("1", "36", "1118", {"properties-of-geometric-figures"}, 1, 161),
        ("2", "8", "1119", set(), 0, 0),
        ("2", "8", "1118", {"properties-of-geometric-figures"}, 1, 102),
    ],
    "ednet_kt1": [
        ("u2", "u2", "q1", {"1", "2", "179", "181"}, 1, 0),
        ("u2", "u2", "q1", {"1", "2", "179", "181"}, 0, 100),
        ("u10", "u10", "q2", {"15", "2", "182"}, 1, 0),
        ("u10", "u10", "q3", set(), 0, 31),
    ],
    "slp": [
        ("A", "S1", "Q1", {"c1", "c2"}, 1, 28 * 86400),
        ("A", "S1", "Q2", set(), 0, 28 * 86400 + 300),
        ("B", "S2", "Q3", {"c3"}, 1, 0),
    ],
    "kdd_cup": [
        ("0BrbPbwCMz", "0BrbPbwCMz", 'EG4-FIXED / x+2 = "5"', {"Distribute", "[Distribute]"}, 0, 0),
        ("0BrbPbwCMz", "0BrbPbwCMz", "EG4-FIXED / 3(x+2) = 15", {"[SkillRule: Eliminate Parens; {CLT nested}]", "[Distribute]"}, 1, 5),
        ("0BrbPbwCMz", "0BrbPbwCMz", "EG40 / -x = -3", set(), 0, 45),
        ("Qq1", "Qq1", "EG40 / -x = -3", {"[Distribute]"}, 1, 105),
    ],
}
LEFT_OUT = {  # what the log says
    "assistments2009": [],
    "assistments2012": ["1 of 5 rows left out: correct is neither 0 nor 1", "1 of 4 rows left out: no school_id"],
    "assistments2015": ["1 of 5 rows left out: correct is neither 0 nor 1"],
    "assistments2017": [],
    "ednet_kt1": ["1 of 5 rows left out: correct is neither 0 nor 1"],
    "slp": ["2 of 6 rows left out: credit is neither 0 nor 1", "1 of 4 rows left out: no school_id"],
    "kdd_cup": ["1 of 5 rows left out: Correct First Attempt is neither 0 nor 1"],
}


def rows(population):
    """What a population says, with names instead of codes."""
    arrays, texts, schema = population.arrays, population.texts, population.schema
    clients = population.ids[population.row_clients]
    for row in range(population.num_examples):
        skills = arrays["skills"][row]
        yield (
            texts[schema.client][clients[row]],
            texts[schema.unit][arrays["unit"][row]],
            texts["question"][arrays["question"][row]],
            {texts["skills"][skill] for skill in skills[skills >= 0]},
            arrays["targets"]["correct"][row],
            arrays["time"][row],
        )


def read(name, folder):
    return getattr(readers, name)(getattr(public_files, name)(folder))


@pytest.mark.parametrize("name", LOGS)
def test_rows_are_attempts_by_client_student_and_time(tmp_path, caplog, name):
    population = read(name, tmp_path)
    assert list(rows(population)) == EXPECTED[name]
    assert [message.partition(": ")[2] for message in caplog.messages] == LEFT_OUT[name]


@pytest.mark.parametrize("name", LOGS)
def test_layout(tmp_path, name):
    population = read(name, tmp_path)
    arrays, schema = population.arrays, population.schema
    assert (population.ids == np.arange(population.num_clients)).all()
    assert all(arrays[leaf].dtype == np.int32 for leaf in ("unit", "question", "skills", "time"))
    assert set(arrays["present"]) == {column.name for column in (*schema.features, *schema.tasks)}
    assert [task.name for task in schema.tasks] == ["correct"]
    for feature in (feature for feature in schema.features if feature.kind == "category"):
        codes = arrays["categories"][feature.name]
        assert codes.max() < len(feature.levels)
        np.testing.assert_array_equal(codes >= 0, arrays["present"][feature.name])
    padding = arrays["skills"] < 0
    assert (np.diff(padding.astype(int), axis=1) >= 0).all()  # once a row has ended, it has
    train, test = population.split_examples((0.5, 0.5), seed=0, unit="unit")
    assert train.num_examples + test.num_examples == population.num_examples


def test_inputs_are_known_before_the_answer(tmp_path):
    """What a pupil did while answering stands in these columns; none may be an input."""
    known_later = {
        "hint",
        "hintCount",
        "hint_count",
        "attempt_count",
        "attemptCount",
        "ms_first_response",
        "elapsed_time",
        "Hints",
        "Corrects",
    }
    for name in LOGS:
        (folder := tmp_path / name).mkdir()
        assert not known_later & {feature.name for feature in read(name, folder).schema.features}


def test_values_of_features(tmp_path):
    population = read("assistments2009", tmp_path)
    assert population.arrays["categories"]["original"].tolist() == [1, 1, 1, 1, 1, 0]
    population = read("assistments2017", tmp_path)
    assert population.arrays["categories"]["InferredGender"].tolist() == [0, -1, 1, 1]
    assert population.schema.groups == {"sex": ("InferredGender",)}
    population = read("slp", tmp_path)
    assert population.arrays["categories"]["exam"].tolist() == [0, 0, 1]
    assert population.schema.features[2].levels == ("private", "public")
    assert population.arrays["categories"]["school_type"].tolist() == [1, 1, 0]
    population = read("ednet_kt1", tmp_path)
    assert population.arrays["categories"]["part"].tolist() == [0, 0, 4, 4]
    population = readers.kdd_cup(public_files.kdd_cup(tmp_path))
    assert population.arrays["numbers"]["Problem View"].tolist() == [1, 1, 2, 2]


def random_log(seed=0, attempts=300):
    """Attempts with none to four skills each, as (order, user, problem, correct, school, skills)."""
    draw = random.Random(seed)
    orders = draw.sample(range(10**6, 10**7), attempts)
    return [
        (
            order,
            user := draw.randrange(20),
            draw.randrange(50),
            draw.randrange(2),
            user % 3,
            draw.sample(range(100, 130), draw.randrange(5)),
        )
        for order in orders
    ]


def write_2009(folder, lines):
    folder.mkdir()
    (folder / "skill_builder_data.csv").write_text("\n".join([public_files.ASSISTMENTS_2009, *lines, ""]))
    return readers.assistments2009(folder)


def lines_2009(log, skills):
    names = ("order_id", "user_id", "problem_id", "correct", "school_id")
    for *values, _, tags in ((*row[:5], None, row[5]) for row in log):
        for tag in skills(tags):
            yield public_files.record(public_files.ASSISTMENTS_2009, original=1, skill_id=tag, **dict(zip(names, values, strict=True)))


def assert_same(one, other):
    assert one.texts == other.texts
    assert one.schema == other.schema
    np.testing.assert_array_equal(one.offsets, other.offsets)
    for (name, leaf), same in zip(one.leaves().items(), other.leaves().values(), strict=True):
        np.testing.assert_array_equal(leaf, same, err_msg=name)


def test_an_attempt_with_several_skills_is_one_row(tmp_path):
    """Nothing depends on the order of the file, on rows that stand in it twice, or on how skills are written."""
    log = random_log()
    lines = list(lines_2009(log, lambda tags: tags or [""]))
    population = write_2009(tmp_path / "as_is", lines)
    shuffled = lines + lines[:50]
    random.Random(1).shuffle(shuffled)
    assert_same(population, write_2009(tmp_path / "shuffled", shuffled))
    assert_same(population, write_2009(tmp_path / "collapsed", lines_2009(log, lambda tags: ["_".join(map(str, tags))])))

    assert population.num_examples == len(log)
    found = defaultdict(list)
    for _, student, question, skills, right, time in rows(population):
        found[time].append((student, question, skills, right))
    assert found == {order: [(str(user), str(problem), set(map(str, tags)), right)] for order, user, problem, right, _, tags in log}


def test_rows_of_one_attempt_that_contradict_each_other_are_an_error(tmp_path):
    public_files.assistments2009(tmp_path)
    path = tmp_path / "skill_builder_data.csv"
    text = path.read_text(encoding="latin-1")
    line = next(line for line in text.splitlines() if line.startswith("35450204"))
    for column, value in (("correct", "1"), ("user_id", "64525"), ("problem_id", "5")):
        fields = line.split(",")
        fields[public_files.ASSISTMENTS_2009.split(",").index(column)] = value
        path.write_text(text.replace(line, ",".join(fields), 1), encoding="latin-1")
        with pytest.raises(DataError, match=f"{column}: got two values where order_id is 35450204; expected .* to differ in skill_id only"):
            readers.assistments2009(path)


def test_other_components_and_a_folder_instead_of_a_file(tmp_path):
    path = public_files.kdd_cup(tmp_path)
    path.write_text(path.read_text().replace("KC(Default)", "KC(SubSkills)"))
    assert list(rows(readers.kdd_cup(path, skills="KC(SubSkills)"))) == EXPECTED["kdd_cup"]
    with pytest.raises(ArgumentError, match=r"file: got .*; name one file of the folder"):
        readers.kdd_cup(tmp_path)


def test_a_file_of_any_name(tmp_path):
    public_files.assistments2015(tmp_path)
    (path,) = tmp_path.iterdir()
    assert list(rows(readers.assistments2015(str(path.rename(tmp_path / "mine.csv"))))) == EXPECTED["assistments2015"]


def test_an_unknown_subject(tmp_path):
    with pytest.raises(ArgumentError, match="subject: got maths; use one of bio, chi"):
        readers.slp(tmp_path, subject="maths")
