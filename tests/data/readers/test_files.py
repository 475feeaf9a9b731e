"""One table and its checks, against what was written into the file."""

import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError, DataError, MissingDependencyError
from fedjax_edu.data.readers import assembly, files

COLUMNS = {"pupil": int, "score": float, "remark": str}


def write(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    path = write(tmp_path, end.join(["remark,unused,score,pupil", "caf\u00e9,x,1.5,7", "", '"a, ""b""",y,,8']), encoding)
    table = files.read_table(path, COLUMNS)
    assert list(table) == ["remark", "score", "pupil"]
    assert table["pupil"].tolist() == [7, 8]
    assert table["remark"].tolist() == ["caf\u00e9", 'a, "b"']
    np.testing.assert_array_equal(table["score"], [1.5, np.nan])


def test_windows_quotes_and_bytes_that_windows_does_not_know(tmp_path):
    assert files.read_table(write(tmp_path, "remark\nit\u2019s", "cp1252"), {"remark": str})["remark"].tolist() == ["it\u2019s"]
    assert files.read_table(write(tmp_path, "remark\n\u00e9\x81", "latin-1"), {"remark": str})["remark"].tolist() == ["\u00e9\ufffd"]


def test_missing_values_are_those_of_the_dialect(tmp_path):
    path = write(tmp_path, 'a;b\n?;NA\n"?";x', "utf-8")
    table = files.read_table(path, {"a": float, "b": str}, dialect=files.Dialect(separator=";", missing=("?",)))
    assert table["a"].isna().all()
    assert table["b"].tolist() == ["NA", "x"]


def test_quotes_that_are_characters(tmp_path):
    path = write(tmp_path, 'a\tb\n"5\t1\nx"y"\t2')
    table = files.read_table(path, {"a": str, "b": int}, dialect=files.Dialect(separator="\t", quoted=False))
    assert table["a"].tolist() == ['"5', 'x"y"']


def test_optional_columns_are_read_where_they_are(tmp_path):
    path = write(tmp_path, "pupil,score\n1,2")
    assert list(files.read_table(path, {"pupil": int}, optional={"score": float, "remark": str})) == ["pupil", "score"]


GOOD = 'pupil,score,remark,level\n7,1.5,"two\nlines",a\n8,2,x,b\n9,3,y,a\n'
BAD = {  # what is wrong: (text instead, what it becomes, where, what the error shows, what was expected)
    "a word": (",2,x", ",two,x", "table.csv:4: score", "two", "expected a number"),
    "a fraction": ("\n9,", "\n9.5,", "table.csv:5: pupil", "9.5", "expected a whole number"),
    "nothing": ("\n8,", "\n,", "table.csv:4: pupil", "nothing", "expected a whole number"),
    "another level": ("x,b", "x,c", "table.csv:4: level", "c", "expected one of a, b"),
    "too few fields": ("9,3,y,a", "9,3", "table.csv:5", "2 fields", "expected 4, as in the header pupil, score, remark, level"),
    "too many fields": ("x,b", "x,b,b", "table.csv:4", "5 fields", "expected 4"),
    "an open quote": ("9,3,y", '9,3,"y', "table.csv:5", "3 fields", "expected 4"),
    "an open quote at the end": ("y,a", 'y,"a', "table.csv", "EOF inside string", "expected every quote to be closed"),
    "a renamed column": (
        "remark",
        "remarks",
        "table.csv",
        "no column 'remark', the nearest is 'remarks'",
        "expected the columns pupil, score",
    ),
    "no rows": (GOOD[24:], "", "table.csv", "no row", "expected rows under the header"),
    "an empty file": (GOOD, "", "table.csv", "no column 'pupil'", "expected the columns pupil, score, remark, level"),
}


@pytest.mark.parametrize(("before", "after", "where", "shown", "expected"), BAD.values(), ids=BAD)
def test_errors_name_file_line_column_and_what_was_expected(tmp_path, before, after, where, shown, expected):
    kinds = {**COLUMNS, "level": ("a", "b")}
    assert len(files.read_table(write(tmp_path, GOOD), kinds)) == 3
    assert GOOD.count(before) == 1
    with pytest.raises(DataError) as raised:
        files.read_table(write(tmp_path, GOOD.replace(before, after)), kinds)
    assert raised.value.argument == str(tmp_path / where)
    assert shown in str(raised.value.value)
    assert expected in raised.value.remedy


def test_a_field_without_end_is_an_error(tmp_path):
    with pytest.raises(DataError, match="field larger than field limit"):
        files.read_table(write(tmp_path, 'a,b\n1,"' + "x\n" * 100_000), {"a": int})


def test_no_file_and_no_folder(tmp_path):
    with pytest.raises(DataError, match="no such file; expected a table with the columns a"):
        files.read_table(tmp_path / "absent.csv", {"a": int})
    with pytest.raises(ArgumentError, match=r"folder: got .*absent; name an existing folder with x"):
        files.folder_of(tmp_path / "absent", "x")
    with pytest.raises(ArgumentError, match="folder: got 3; pass the path"):
        files.located(3, "x")


def test_pandas_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r'pandas.*pip install "fedjax_edu\[readers\]"'):
        files.read_table(write(tmp_path, "a\n1"), {"a": int})


def test_left_out_rows_are_counted_in_the_log(caplog):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"a": [1, 2, 3]})
    assert assembly.kept(table, table["a"] > 0, "source", "reason") is table
    assert caplog.messages == []
    assert assembly.kept(table, table["a"] > 1, "source", "reason")["a"].tolist() == [2, 3]
    assert caplog.messages == ["source: 1 of 3 rows left out: reason"]
    with pytest.raises(DataError, match="source: got 3 rows, all left out: reason"):
        assembly.kept(table, table["a"] > 3, "source", "reason")
