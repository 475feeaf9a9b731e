"""Every reader, with a file that is gone, a column of another name, and a row that is broken."""

from typing import NamedTuple

import pytest

from fedjax_edu.core.errors import DataError
from fedjax_edu.data import readers
from tests.data.readers import public_files


class Broken(NamedTuple):
    """One file of a data set, and how it is broken.

    Args:
        reader: name of the reader, and of the function that writes its public_files.
        file: below the folder.
        column: a column that is needed.
        word: what stands once in a line of its own, and becomes no value of that line's kind.
        instead: what takes its place.
        where: what follows the file's name in the error.
        expected: what the error says.
    """

    reader: str
    file: str
    column: str
    word: str
    instead: str
    where: str
    expected: str


BROKEN = [
    Broken("assistments2009", "skill_builder_data.csv", "order_id", "33022537", "330225x", ":2: order_id", "a number"),
    Broken("assistments2009", "skill_builder_data.csv", "skill_id", ",51425,1,0,", ",51425,2,0,", ":6: original", "one of 0, 1"),
    Broken("assistments2012", "2012-2013-data-with-predictions-4-final.csv", "school_id", "0.75", "3/4", ":5: correct", "a number"),
    Broken(
        "assistments2012", "2012-2013-data-with-predictions-4-final.csv", "start_time", "28 15:13", "38 15:13", ": start_time", "a time"
    ),
    Broken("assistments2015", "2015_100_skill_builders_main_problems.csv", "log_id", "40,7014", "40,", ":4: sequence_id", "a whole number"),
    Broken("assistments2017", "anonymized_full_release_competition_dataset.csv", "skill", "1096470199", "now", ":3: startTime", "a number"),
    Broken("ednet_kt1", "contents/questions.csv", "correct_answer", "e1,b,1", "e1,b,8", ":2: part", "one of 1, 2, 3, 4, 5, 6, 7"),
    Broken("ednet_kt1", "KT1/u10.csv", "user_answer", "1565096221062", "1565096221.5", ":3: timestamp", "a whole number"),
    Broken("ednet_kt1", "KT1/u2.csv", "question_id", "290000,2,q1", "290000,2,q9", ": question_id", "a question of contents/questions.csv"),
    Broken("slp", "unit-math.csv", "full_score", "1.5", "half", ":4: score", "a number"),
    Broken("slp", "term-math.csv", "concept", "S3,5,5,2017-02-01", "S3,5,5,yesterday", ": time_access", "a time"),
    Broken("slp", "student.csv", "school_id", "S2,M,B", "S2,M", ":3", "4, as in the header student_id, gender"),
    Broken("slp", "school.csv", "school_type", "B,private", "B", ":3", "3, as in the header school_id"),
    Broken("asap", "training_set_rel3.tsv", "domain1_score", "Dear local", "Dear\tlocal", ":3", "28, as in the header essay_id"),
    Broken("pisa", "CY08MSP_STU_QQQ.CSV", "W_FSTUWT", "800253", "800253,1", ":4", "as in the header CNTRYID"),
    Broken("pisa", "CY08MSP_STU_QQQ.CSV", "PV10SCIE", "DEU,800001", "DEU,", ":4: CNTSCHID", "a whole number"),
    Broken("pisa", "CY08MSP_SCH_QQQ.CSV", "SCHLTYPE", "12.5", "12,5", ":3", "6, as in the header"),
    Broken(
        "oulad", "studentInfo.csv", "final_result", '"Fail"', '"Failed"', ":4: final_result", "one of Pass, Distinction, Fail, Withdrawn"
    ),
    Broken("oulad", "studentRegistration.csv", "date_registration", "-159", "1 May", ":2: date_registration", "a number"),
    Broken("oulad", "vle.csv", "activity_type", '"546712","AAA"', '"AAA"', ":3", "6, as in the header id_site"),
    Broken("oulad", "studentVle.csv", "sum_click", '"100"', '"?"', ":4: sum_click", "a whole number"),
    Broken("oulad", "assessments.csv", "id_assessment", "1757", "Exam", ":3: id_assessment", "a number"),
    Broken("oulad", "studentAssessment.csv", "is_banked", '"91"', '"91', "", "every quote to be closed"),
]
IDS = [f"{broken.reader} {broken.file} {broken.column}" for broken in BROKEN]


@pytest.fixture
def written(request, tmp_path):
    """(how it is broken, the file, reads the data set again)."""
    broken = request.param
    place = getattr(public_files, broken.reader)(tmp_path)
    reader = getattr(readers, broken.reader)
    reader(place)
    return broken, tmp_path / broken.file, lambda: reader(place)


def change(path, before, after):
    data = path.read_bytes()
    assert data.count(before.encode()) == 1, before
    path.write_bytes(data.replace(before.encode(), after.encode()))


NEEDED = [broken for broken in BROKEN if broken.reader != "pisa" and not broken.file.startswith("KT1")]  # those are found by their names


@pytest.mark.parametrize("written", NEEDED, ids=lambda broken: broken.file, indirect=True)
def test_a_missing_file(written):
    broken, path, again = written
    path.unlink()
    with pytest.raises(DataError) as raised:
        again()
    assert raised.value.argument == str(path)
    assert raised.value.value == "no such file"
    assert broken.column in raised.value.remedy


@pytest.mark.parametrize("written", BROKEN, ids=IDS, indirect=True)
def test_a_renamed_column(written):
    broken, path, again = written
    data = path.read_bytes()
    path.write_bytes(data.replace(broken.column.encode(), broken.column.upper().encode()[:-1] + b"_X", 1))
    with pytest.raises(DataError) as raised:
        again()
    assert raised.value.argument == str(path)
    assert f"no column {broken.column!r}" in raised.value.value
    assert broken.column in raised.value.remedy


@pytest.mark.parametrize("written", BROKEN, ids=IDS, indirect=True)
def test_a_broken_row(written):
    broken, path, again = written
    change(path, broken.word, broken.instead)
    with pytest.raises(DataError) as raised:
        again()
    assert raised.value.argument == f"{path}{broken.where}"
    assert raised.value.remedy.startswith("expected ")
    assert broken.expected in raised.value.remedy


def test_kdd_cup(tmp_path):
    path = public_files.kdd_cup(tmp_path)
    with pytest.raises(DataError, match=r"no column 'KC\(SubSkills\)', the nearest is 'KC\(Default\)'"):
        readers.kdd_cup(path, skills="KC(SubSkills)")
    change(path, "EG4-FIXED\t1\t3(x+2)", "EG4-FIXED\tonce\t3(x+2)")
    with pytest.raises(DataError, match=r"train.txt:2: Problem View: got once; expected a number"):
        readers.kdd_cup(path)
    path.unlink()
    with pytest.raises(DataError, match=r"train.txt: got no such file; expected a table with the columns Anon Student Id"):
        readers.kdd_cup(path)


def test_no_learner(tmp_path):
    public_files.ednet_kt1(tmp_path)
    for path in (tmp_path / "KT1").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"KT1: got no file; expected u1.csv and so on"):
        readers.ednet_kt1(tmp_path)
