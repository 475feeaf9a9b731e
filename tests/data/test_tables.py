"""Anybody's table as a population: what becomes of its columns, and what is refused."""

import re
import zipfile
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import fedjax_edu as fe
from fedjax_edu.data import Feature, Population, Schema, Standardiser, Task
from fedjax_edu.data.inference import as_words
from fedjax_edu.data.tables import populate

ROWS = 40


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "pupil_id": 7000 + np.arange(ROWS),
            "school": rng.choice(["north", "east", "west"], ROWS),
            "ses": np.where(rng.random(ROWS) < 0.2, np.nan, rng.normal(size=ROWS)),
            "siblings": rng.integers(0, 4, ROWS),
            "sex": rng.choice(["f", "m", None], ROWS),
            "repeats": rng.random(ROWS) < 0.3,
            "band": pd.Categorical(rng.choice(["low", "high"], ROWS), categories=["low", "middle", "high"], ordered=True),
            "born": pd.Timestamp("2010-01-01") + pd.to_timedelta(rng.integers(0, 900, ROWS), unit="D"),
            "essay": [f"essay number {row // 2} of a pupil" if row != 3 else None for row in range(ROWS)] + [],
            "token": [f"x{row:03d}" for row in rng.permutation(ROWS)],
            "country": "here",
            "blank": np.nan,
            "passed": rng.choice(["yes", "no"], ROWS),
            "score": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(50, 10, ROWS)),
        }
    )


TASKS = {"passed": "binary", "score": "regression"}


def make(table, **changes):
    return Population.from_table(table, **({"client": "school", "tasks": TASKS, "say": None} | changes))


@pytest.fixture(scope="module")
def population(frame):
    return make(frame, inputs={"essay": "text"} | dict.fromkeys(["ses", "siblings", "sex", "repeats", "band", "born"]))


def in_order(frame):
    """The frame with its rows as a population has them."""
    return frame.assign(place=frame["school"].map({"east": 0, "north": 1, "west": 2})).sort_values("place", kind="stable")


def test_rows_go_to_their_client_in_the_order_of_the_table(frame, population):
    expected = in_order(frame)
    np.testing.assert_array_equal(population.arrays["row"], expected.index)
    np.testing.assert_array_equal(population.row_clients, expected["place"])
    assert population.texts["school"] == ("east", "north", "west")
    assert population.ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ([f"{row / 7:.3f}" for row in range(ROWS * 3 - 1)] + ["-"], "a number but for '-': leave such cells empty"),
        (["1", "2", "n.b."] * ROWS, "a number but for 'n.b.'"),
        (["low", "1"] * (ROWS // 2 * 3), ""),
        (["1", "2", "3"] * ROWS, ""),
    ],
)
def test_numbers_with_a_stray_mark_are_told(frame, column, told):
    said = []
    long = pd.concat([frame] * 3, ignore_index=True).assign(prior=column)
    make(long, inputs=["prior"], say=said.append)
    (line,) = (line for line in said[0].splitlines() if "prior" in line)
    assert told in line if told else "a number but" not in line


def test_types_are_seen_and_useless_columns_left_out(frame):
    said = []
    schema = make(frame, say=said.append).schema
    assert {feature.name: feature.kind for feature in schema.features} == {
        "ses": "number",
        "siblings": "number",
        "sex": "category",
        "repeats": "category",
        "band": "category",
        "born": "number",
        "essay": "category",  # twenty distinct values
    }
    assert {feature.name: feature.levels for feature in schema.features if feature.name in ("sex", "repeats", "band")} == {
        "sex": ("f", "m"),
        "repeats": ("False", "True"),
        "band": ("low", "middle", "high"),
    }
    (text,) = said
    for line in (
        "client            school    3 clients, 40 rows",
        "left out          pupil_id  is called like an identifier and has 40 distinct values",
        "left out          token     has another value in every row, as an identifier has",
        "left out          country   has one value only",
        "left out          blank     has no value",
        "task, binary      passed    1 is 'yes'",
    ):
        assert line in text.splitlines()


def test_what_is_missing_is_masked_and_everything_else_is_kept(frame, population):
    expected, arrays = in_order(frame), population.arrays
    for name in ("ses", "score"):
        group = arrays["numbers"] if name == "ses" else arrays["targets"]
        known = expected[name].notna().to_numpy()
        np.testing.assert_array_equal(arrays["present"][name], known)
        np.testing.assert_array_equal(group[name], np.where(known, expected[name], 0).astype(np.float32))
    np.testing.assert_array_equal(arrays["categories"]["sex"], expected["sex"].map({"f": 0, "m": 1}).fillna(-1))
    np.testing.assert_array_equal(arrays["categories"]["band"], expected["band"].cat.codes)
    np.testing.assert_array_equal(arrays["targets"]["passed"], expected["passed"] == "yes")
    np.testing.assert_array_equal(arrays["numbers"]["born"], (expected["born"] - pd.Timestamp(0)).dt.days)
    texts = [population.texts["essay"][code] if code >= 0 else None for code in arrays["texts"]["essay"]]
    assert texts == [None if pd.isna(text) else text for text in expected["essay"]]
    assert arrays["present"]["essay"].sum() == ROWS - 1


def test_a_missing_yes_or_no_is_neither(frame):
    gaps = frame.assign(passed=frame["passed"].where(np.arange(ROWS) % 4 > 0))
    arrays = make(gaps).arrays
    known = in_order(gaps)["passed"].notna().to_numpy()
    np.testing.assert_array_equal(arrays["present"]["passed"], known)
    np.testing.assert_array_equal(arrays["targets"]["passed"], np.where(known, in_order(gaps)["passed"] == "yes", 0))


def test_many_words_are_a_text(frame):
    long = pd.concat([frame] * 5, ignore_index=True).assign(essay=lambda table: [f"words of row {row}" for row in table.index])
    assert {feature.kind for feature in make(long).schema.features if feature.name == "essay"} == {"text"}


class Dataset:
    """What a Hugging Face data set, an Arrow table and a Polars frame have in common."""

    def __init__(self, frame):
        self._frame = frame

    def to_pandas(self):
        return self._frame


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "parquet", "mapping", "to_pandas"])
def test_every_form_of_a_table_makes_the_same_population(frame, form, tmp_path):
    simple = frame.drop(columns=["band", "born", "blank"])  # a text file does not keep their types
    path = tmp_path / f"students.{form}"
    match form:
        case "csv" | "csv.gz":
            simple.to_csv(path, index=False)
        case "tsv":
            simple.to_csv(path, index=False, sep="\t")
        case "parquet":
            simple.to_parquet(path)
    table = {"mapping": {name: simple[name].to_numpy() for name in simple}, "to_pandas": Dataset(simple)}.get(form, path)
    found, expected = make(table), make(simple)
    assert found.schema == expected.schema and found.texts == expected.texts
    for name, values in expected.leaves().items():
        np.testing.assert_array_equal(found.leaves()[name], values)


def test_units_and_classrooms_are_numbered(frame):
    rooms = frame.assign(room=np.arange(ROWS) % 3, pupil=np.arange(ROWS) // 2)
    found = make(rooms, unit="pupil", classroom="room", inputs=["ses"])
    assert (found.schema.unit, found.schema.classroom) == ("pupil", "room")
    assert len(np.unique(found.arrays["unit"])) == ROWS // 2
    for position in range(3):
        own = found.client(position)["classroom"]
        assert sorted(set(own.tolist())) == list(range(len(set(own.tolist()))))


@pytest.mark.parametrize(
    ("changes", "edit", "message"),
    [
        ({"client": "skool"}, None, r"^client: got skool; use a column of the table: 'pupil_id', 'school'"),
        ({"tasks": {}}, None, r"^tasks: "),
        ({"tasks": {"mark": "regression"}}, None, r"^tasks: got mark; use a column"),
        ({"tasks": {"passed": "yes-no"}}, None, r"^tasks\.passed: got yes-no; use one of binary, regression"),
        ({"tasks": {"country": "regression"}}, None, r"^tasks\.country: got 1 distinct values; predict a column that varies"),
        ({"tasks": {"blank": "regression"}}, None, r"^tasks\.blank: got 0 distinct values"),
        ({"tasks": {"passed": "regression"}}, None, r"^tasks\.passed: got 'yes' in row|^tasks\.passed: got 'no' in row"),
        ({"tasks": {"siblings": "binary"}}, None, r"^tasks\.siblings: got 4 distinct values, 0, 1, 2, 3 among them; use two"),
        ({"inputs": ["token"]}, None, r"^inputs\.token: got has another value in every row"),
        ({"inputs": {"sex": "number"}}, None, r"^inputs\.sex: got '.' in row"),
        ({"inputs": {"sex": "colour"}}, None, r"^inputs\.sex: got colour; use one of number, category, text"),
        ({"inputs": ["score"]}, None, r"^inputs: got score; use a column once"),
        ({"inputs": ["weight"]}, None, r"^inputs: got weight; use a column of the table"),
        ({"groups": {"religion": "sex"}}, None, r"^groups: got religion; use sex, ethnicity, ses, grade"),
        ({"tasks": {"school": "binary"}}, None, r"^tasks: got school; use a column once"),
        ({"unit": "school"}, None, r"^unit: got school; use a column once"),
        ({"classroom": "siblings", "unit": "siblings"}, None, r"^classroom: got siblings; use a column once"),
        ({"client": None}, None, r"^client: got None; use a column of the table"),
        ({"tasks": ["passed"]}, None, r"^tasks: got \['passed'\]; name at least one column to predict, with its kind"),
        ({"inputs": ["ses"], "groups": {"sex": "sex"}}, None, r"^groups\.sex: got sex; use a number or a category among the inputs: ses"),
        ({"inputs": {"ses": None, "sex": "text"}, "groups": {"sex": "sex"}}, None, r"^groups\.sex: got sex; use a number or a category"),
        ({"inputs": ["ses", "marks"]}, lambda t: t.assign(marks=[[1, 2]] * ROWS), r"^inputs, column 'marks': got has lists"),
        ({}, lambda t: t.assign(score=1e9 + t["siblings"]), r"^tasks\.score: got numbers from .*; subtract a constant"),
        ({}, lambda t: t.assign(score=1e39 * t["siblings"]), r"^tasks\.score: got numbers from .* to 3e\+39; subtract a"),
        ({"inputs": {"far": "number"}}, lambda t: t.assign(far=1e9 + t["siblings"]), r"^inputs\.far: got numbers from .*; subtract"),
        ({}, lambda t: t.assign(school=t["school"].where(t.index != 5, "  ")), r"school.*1 rows without a value, row 5 the first"),
        ({}, lambda t: t.assign(school=t["school"].where(t.index != 5)), r"school.*1 rows without a value, row 5 the first"),
        ({}, lambda t: pd.concat([t, t[["ses"]]], axis=1), r"^table: got the column 'ses' 2 times"),
        ({}, lambda t: t.iloc[:0], r"^table: got 14 columns and no row"),
        ({}, lambda t: pd.concat({"pupil": t}, axis=1), r"^table: got column names of 2 levels; give every column one name"),
        ({}, lambda t: t[["school", "passed", "score", "country"]], r"^inputs: got no column of use"),
    ],
)
def test_a_table_that_cannot_work_is_refused(frame, changes, edit, message):
    with pytest.raises(fe.errors.ArgumentError, match=message):
        make(frame if edit is None else edit(frame), **changes)


def test_files_that_cannot_be_read_say_why(frame, tmp_path):
    latin = tmp_path / "latin.csv"
    frame.assign(sex="é").to_csv(latin, index=False, encoding="latin-1")
    with pytest.raises(fe.errors.DataError, match=r"latin\.csv: got byte 0xe9, which is no utf-8; .*encoding='latin-1'"):
        make(latin)
    assert make(latin, encoding="latin-1", inputs={"sex": "category"}).schema.features[0].levels == ("é",)
    twice = tmp_path / "twice.csv"
    twice.write_text("school,ses,ses,score\na,1,2,3\nb,2,3,4\n")
    with pytest.raises(fe.errors.DataError, match=r"^table: got the column 'ses' 2 times"):
        make(twice, tasks={"score": "regression"})
    broken = tmp_path / "broken.csv"
    broken.write_text("school,ses,score\na,1,2\nb,2,3,4,5\n")
    with pytest.raises(fe.errors.DataError, match=r"broken\.csv: got .*line 3"):
        make(broken, tasks={"score": "regression"})
    for name, remedy in {"absent.csv": "name a file that exists", "table.docx": "use a file that ends in one of"}.items():
        if name.endswith("docx"):
            (tmp_path / name).write_text("")
        with pytest.raises(fe.errors.ArgumentError, match=remedy):
            make(tmp_path / name)
    with pytest.raises(fe.errors.ArgumentError, match=r"^table: got 3; pass a path"):
        make(3)
    for columns in ({"school": ["a", "b"], "ses": [1.0]}, {"school": {"a", "b"}}, {"a": pd.Series([1, 2, 3]), "b": pd.Series([1, 2])}):
        with pytest.raises(fe.errors.DataError, match=r"^table: got .*; pass a mapping of columns"):
            make(columns)
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("one.csv", "school,score\na,1\n")
        archive.writestr("__MACOSX/one.csv", "")
    with pytest.raises(
        fe.errors.DataError, match=r"two\.csv\.zip: got Multiple files found in ZIP file.*; pass a file that can be unpacked"
    ):
        make(tmp_path / "two.csv.zip")
    for strange in (f"{'long' * 100}.csv", Dataset(3)):
        with pytest.raises(fe.errors.ArgumentError, match=r"^table: got "):
            make(strange)
    for encoding in ("klingon", "a\0", 3):
        with pytest.raises(fe.errors.ArgumentError, match=rf"^encoding: got {encoding}; use one that Python knows"):
            make(latin, encoding=encoding)
    with pytest.raises(fe.errors.ArgumentError, match=r"^encoding: got undefined; use one for whole files"):
        make(latin, encoding="undefined")
    for name in ("broken.csv.gz", "broken.csv.zip", "broken.parquet"):
        (tmp_path / name).write_bytes(b"no such format")
        with pytest.raises(fe.errors.DataError, match=rf"{name}: got "):
            make(tmp_path / name)


@pytest.mark.parametrize("line", ["{0},a,{1},{2},", "{0},a,{1},{2},9"])
def test_columns_do_not_move_where_rows_are_longer_than_the_header(line, tmp_path):
    """Pandas takes the first value of such rows for a name of the row."""
    path = tmp_path / "longer.csv"
    path.write_text("\n".join(["number,school,ses,score", *(line.format(number, number / 7, number % 3) for number in range(ROWS))]))
    with pytest.raises(fe.errors.DataError, match=r"longer\.csv: got .*Expected 4 fields in line 2, saw 5"):
        make(path, tasks={"score": "regression"})


def test_blanks_are_missing_and_an_infinity_is_a_missing_number(frame, tmp_path):
    path = tmp_path / "BLANKS.CSV"
    ses = [" " if row == 3 else "inf" if row == 4 else str(row / 7) for row in range(ROWS)]
    frame[["school", "score"]].assign(ses=ses).to_csv(path, index=False)
    found = make(path, tasks={"score": "regression"})
    assert found.schema.features == (Feature("ses", "number"),)
    assert sorted(found.arrays["row"][~found.arrays["present"]["ses"]]) == [3, 4]


@pytest.mark.parametrize("form", ["csv", "frame", "parquet", "categorical"])
def test_words_for_no_value_are_missing_wherever_a_table_comes_from(frame, form, tmp_path):
    """Those that the documentation of pandas.read_csv lists."""
    words = ["NA", " None", "null", "#N/A", "n/a", "<NA>", "nan", "", "nobody", "Nan"]
    table = frame[["school", "score"]].assign(support=[words[row % len(words)] for row in range(ROWS)])
    if form == "csv":
        table.to_csv(tmp_path / "table.csv", index=False)
    elif form == "parquet":
        table.to_parquet(tmp_path / "table.parquet")
    elif form == "categorical":
        table = table.astype({"support": "category"})
    found = make(table if form in ("frame", "categorical") else tmp_path / f"table.{form}", tasks={"score": "regression"})
    assert found.schema.features[0].levels == ("Nan", "nobody")
    np.testing.assert_array_equal(found.arrays["present"]["support"], found.arrays["row"] % len(words) >= 8)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([1.0, 2.5, None], ["1", "2.5", None]),
        (
            ["1", "1.0", " 01 ", "+1.", "x", "1.50", "-0", "-007.250", "1e5", "1E-7", ".5", "1_0", "٣", ""],
            ["1", "1", "1", "1", "x", "1.5", "0", "-7.25", "100000", "0.0000001", "0.5", "1_0", "٣", ""],
        ),
        ([True, None, "true", "FALSE", "tRUE"], ["True", None, "True", "False", "tRUE"]),
        ([10**19, 5], ["10000000000000000000", "5"]),
        ([np.inf, 1.0], ["inf", "1"]),
        ([1e16, 0.5, 1e-7, None], ["10000000000000000", "0.5", "0.0000001", None]),
        ([pd.Timestamp("2010-01-01"), pd.Timestamp("2010-01-01 12:30")], ["2010-01-01", "2010-01-01 12:30:00"]),
        ([pd.Timedelta(days=1), pd.Timedelta(hours=1), None], ["1 days", "0 days 01:00:00", None]),
    ],
)
def test_the_word_of_a_cell_does_not_depend_on_the_cells_beside_it(cells, words):
    """A file's column of numbers is read as words as soon as one of them is none."""
    expected = [word or None for word in words]
    assert [None if pd.isna(word) else word for word in as_words(pd.Series(cells))] == expected
    for cell, word in zip(cells, expected, strict=True):
        (alone,) = as_words(pd.Series([cell]))
        assert pd.isna(alone) if word is None else alone == word


def test_a_file_keeps_the_words_of_categories_that_look_like_numbers(tmp_path):
    """As float64, both would be 12345678901234568."""
    rows = [f"{school},{word},{school}" for school, word in enumerate(["12345678901234567", "12345678901234568", ""] * 5)]
    (tmp_path / "codes.csv").write_text("\n".join(["school,code,score", *rows]))
    found = make(tmp_path / "codes.csv", tasks={"score": "regression"}, inputs={"code": "category"})
    assert found.schema.features[0].levels == ("12345678901234567", "12345678901234568")
    np.testing.assert_array_equal(found.arrays["categories"]["code"], [0, 1, -1] * 5)


def test_columns_of_other_libraries_types_are_read(frame):
    arrow = pytest.importorskip("pyarrow")

    def column(values, kind):
        return pd.Series(values * (ROWS // len(values)), dtype=pd.ArrowDtype(kind))

    table = frame[["school", "score"]].assign(
        word=column(["a", "NA", "b", "b"], arrow.dictionary(arrow.int32(), arrow.string())),
        amount=column([Decimal("1.5"), None, Decimal("2.5"), Decimal("3.5")], arrow.decimal128(5, 2)),
        day=column([date(2010, 1, 1), None], arrow.date32()),
        until=[datetime(9999, 12, 31), datetime(2010, 1, 1)] * (ROWS // 2),
        huge=["9" * 400, "1"] * (ROWS // 2),
    )
    found = make(
        table, tasks={"score": "regression"}, inputs={"word": None, "amount": None, "day": "category", "until": None, "huge": None}
    )
    kinds = {feature.name: (feature.kind, feature.levels) for feature in found.schema.features}
    assert kinds["word"] == ("category", ("a", "b"))
    assert kinds["amount"] == ("number", ())
    assert kinds["day"] == ("category", ("2010-01-01",))
    assert sorted(set(found.arrays["numbers"]["until"].tolist())) == [14610.0, 2932896.0]
    np.testing.assert_array_equal(found.arrays["present"]["huge"], found.arrays["row"] % 2 == 1)


def test_columns_of_a_mapping_are_not_aligned():
    columns = {"school": pd.Series(["a", "b"], index=[5, 6]), "ses": pd.Series([1.0, 2.0]), "score": [0.5, 1.0]}
    assert make(columns, tasks={"score": "regression"}, inputs=["ses"]).arrays["numbers"]["ses"].tolist() == [1.0, 2.0]


def test_long_words_are_spelt_in_time_that_grows_with_their_length():
    words = ["0" * 1_000_000 + "x", "1." + "0" * 1_000_000 + "x", "9" * 1_000_000, "1" * 1_000_000 + "e"]
    assert as_words(pd.Series(words)).tolist() == words


def test_white_space_around_words_makes_no_other_word(frame):
    spaced = frame.assign(
        school=frame["school"].where(frame.index % 2 == 0, frame["school"] + " "),
        band=pd.Categorical(np.where(frame.index % 2, " high", "low"), categories=["low", " high"], ordered=True),
        passed=pd.Categorical(np.where(frame.index % 2, "yes ", "no"), categories=["no", "perhaps", "yes "]),
    )
    found = make(spaced, inputs=["band"])
    assert found.texts["school"] == ("east", "north", "west")
    np.testing.assert_array_equal(found.arrays["row"], in_order(frame).index)
    assert found.schema.features[0].levels == ("low", "high") and found.schema.tasks[0].levels == ("no", "yes")
    odd = found.arrays["row"] % 2
    np.testing.assert_array_equal(found.arrays["categories"]["band"], odd)
    np.testing.assert_array_equal(found.arrays["targets"]["passed"], odd)
    assert found.arrays["present"]["passed"].all()


def test_columns_without_single_or_distinct_numbers_are_left_out(frame):
    said = []
    strange = frame.assign(marks=[np.ones(2)] * ROWS, wave=1j * frame["siblings"], far=16_777_217 + np.arange(ROWS) // 2)
    names = {feature.name for feature in make(strange, say=said.append).schema.features}
    assert not names & {"marks", "wave", "far"}
    assert "left out          far       has numbers too close together for their size: float32 keeps seven digits" in said[0].splitlines()


def test_clients_may_have_any_number(frame):
    far = make(frame.assign(school=1e20 * (1 + np.arange(ROWS) % 3)), inputs=["ses"])
    assert far.texts["school"] == tuple(f"{times}{'0' * 20}" for times in (1, 2, 3))


def test_a_kind_given_by_name_is_obeyed(frame):
    found = make(frame, inputs={"token": "category", "siblings": "category", "pupil_id": "number"})
    assert [(feature.name, feature.kind) for feature in found.schema.features] == [
        ("token", "category"),
        ("siblings", "category"),
        ("pupil_id", "number"),
    ]
    assert found.schema.features[1].levels == ("0", "1", "2", "3")


def test_new_rows_follow_a_known_schema(frame, population):
    """Levels keep their codes; a level that was never seen counts as missing; targets need not be there."""
    new = frame.assign(sex="x", school="new").drop(columns=["passed", "score"])
    found = populate(new, population.schema, targets=False)
    assert "targets" not in found.arrays and not found.arrays["present"]["sex"].any()
    np.testing.assert_array_equal(found.arrays["categories"]["band"], frame["band"].cat.codes)


def test_splitting_and_selecting_keep_the_schema(population):
    assert population.select([1]).schema is population.schema
    assert population.split_examples((0.5, 0.5), seed=0)[1].texts == population.texts


def test_a_schema_survives_a_file(population):
    import json

    assert Schema.from_json(json.loads(json.dumps(population.schema.to_json()))) == population.schema


def test_a_schema_names_a_column_once():
    with pytest.raises(fe.errors.DataError, match=r"the column 'ses' twice"):
        Schema("school", (Feature("ses", "number"),), (Task("ses", "regression"),))


def test_standardising_undoes_itself_and_looks_at_training_rows_alone(population):
    train = population.select([0, 1])
    scales = Standardiser.fit(train)
    ses, known = train.arrays["numbers"]["ses"].astype(np.float64), train.arrays["present"]["ses"]
    assert scales.inputs["ses"].mean == pytest.approx(ses[known].mean())
    assert scales.inputs["ses"].deviation == pytest.approx(ses[known].std())
    scaled = scales.apply(population)
    assert not scaled.arrays["numbers"]["ses"][~population.arrays["present"]["ses"]].any()
    np.testing.assert_array_equal(scaled.arrays["targets"]["passed"], population.arrays["targets"]["passed"])
    known = population.arrays["present"]["score"]
    back = scales.undo("score", scaled.arrays["targets"]["score"].astype(np.float64))
    np.testing.assert_allclose(back[known], population.arrays["targets"]["score"][known], rtol=1e-5)
    assert Standardiser.from_json(scales.to_json()) == scales


def test_a_number_that_training_rows_do_not_vary_says_nothing_of_others(population):
    """A network's weights of such a column are those it started with."""
    numbers = {**population.arrays["numbers"], "ses": np.where(population.row_clients == 2, 2e6, 7).astype(np.float32)}
    present = {**population.arrays["present"], "siblings": population.row_clients == 2}
    arrays = {**population.arrays, "numbers": numbers, "present": present}
    flat = Population.from_arrays(arrays, population.offsets, schema=population.schema)
    scales = Standardiser.fit(flat.select([0, 1]))
    scaled = scales.apply(flat).arrays["numbers"]
    assert not scaled["ses"].any() and not scaled["siblings"].any() and scaled["born"].any()
    assert Standardiser.from_json(scales.to_json()) == scales


def test_a_target_without_variation_among_training_clients_is_refused(population):
    targets = {**population.arrays["targets"], "score": np.zeros(ROWS, np.float32)}
    arrays = {**population.arrays, "targets": targets}
    flat = Population.from_arrays(arrays, population.offsets, schema=population.schema)
    with pytest.raises(fe.errors.DataError, match=r"^targets\.score: "):
        Standardiser.fit(flat)


def test_scales_need_a_table():
    with pytest.raises(fe.errors.ArgumentError, match=r"from_table"):
        Standardiser.fit(Population.from_arrays(np.zeros(3), [0, 3]))


@pytest.mark.parametrize(
    "names", [["1E2", "100", "2", "3"], ["12E4", "120000", "ab", "c"], ["007", "7", "07", "8"], ["true", "True", "no", "x"]]
)
def test_names_are_kept_as_they_are_written(tmp_path, names):
    """Codes of schools are no numbers; those that all look like numbers stand in their order."""
    path = tmp_path / "table.csv"
    pd.DataFrame({"school": names * 5, "pupil": names * 5, "x": np.arange(20.0), "score": np.arange(20.0) % 7}).to_csv(path, index=False)
    found = make(path, tasks={"score": "regression"}, unit="pupil", inputs=["x"])
    assert set(found.texts["school"]) == set(names) and found.num_clients == 4
    assert len(np.unique(found.arrays["unit"])) == 4
    if names[0] == "1E2":
        assert found.texts["school"] == ("2", "3", "100", "1E2")


def test_names_of_whole_numbers_are_those_of_the_table():
    """Pandas reads whole numbers as others where one is missing."""
    table = pd.DataFrame({"school": [10.0, 9.0, 10.0, 2.0] * 5, "x": np.arange(20.0), "score": np.arange(20.0) % 7})
    assert make(table, tasks={"score": "regression"}).texts["school"] == ("2", "9", "10")
    assert make(table.astype({"school": int}), tasks={"score": "regression"}).texts["school"] == ("2", "9", "10")


def test_how_a_file_is_written_does_not_say_what_yes_means(frame):
    """Dictionaries of Parquet files list words as they come; an order that somebody gave is another thing."""
    for categories in (["yes", "no"], ["no", "yes"]):
        written = frame.assign(passed=pd.Categorical(frame["passed"], categories=categories))
        assert make(written).schema.tasks[0].levels == ("no", "yes")
        ordered = frame.assign(passed=pd.Categorical(frame["passed"], categories=categories, ordered=True))
        assert make(ordered).schema.tasks[0].levels == tuple(categories)


@pytest.mark.parametrize("name", ["id_student", "student_id", "StudentNr", "pupilID", "house_no", "id", "Index"])
def test_columns_that_are_called_like_identifiers_are_left_out(frame, name):
    found = make(frame.assign(**{name: np.arange(ROWS) // 1 * 17}))
    assert name not in {feature.name for feature in found.schema.features}


@pytest.mark.parametrize("name", ["fees_paid", "covid", "ses_index", "piano", "grid_size"])
def test_columns_that_only_end_like_one_stay(frame, name):
    found = make(frame.assign(**{name: np.arange(ROWS) * 17}))
    assert name in {feature.name for feature in found.schema.features}


def test_another_name_of_the_client_is_left_out():
    """A word for each; numbers of a school, and words that some share, are facts about it."""
    school = np.repeat(np.arange(8), 10)
    table = pd.DataFrame({"school": school, "x": np.arange(80.0) % 11, "score": np.arange(80.0) % 7})
    table["title"], table["ses"], table["town"] = [f"School {one}" for one in school], school * 0.37, np.array(["a", "b"])[school % 2]
    said = []
    found = make(table, tasks={"score": "regression"}, say=said.append)
    assert {feature.name for feature in found.schema.features} == {"x", "ses", "town"}
    assert re.search(r"left out +title +says which client a row is of, each by a word of its own", said[0])
    assert "title" in {one.name for one in make(table, tasks={"score": "regression"}, inputs={"title": "category"}).schema.features}


def test_a_column_of_another_word_in_most_cells_is_a_text():
    """Forty incidents, each told in words of its own, are no levels that a model's card should list."""
    told = [f"pupil {row} was seen" if row < 40 else None for row in range(400)]
    table = pd.DataFrame({"school": np.arange(400) % 9, "told": told, "x": np.arange(400.0) % 13, "score": np.arange(400.0) % 7})
    (feature,) = [one for one in make(table, tasks={"score": "regression"}).schema.features if one.name == "told"]
    assert feature.kind == "text" and feature.levels == ()


def test_true_and_false_are_words_though_some_are_missing(frame):
    given = frame["repeats"].astype(object).where(np.arange(ROWS) % 5 > 0, None)
    for values in (given, given.astype("boolean"), frame["repeats"]):
        (feature,) = [one for one in make(frame.assign(repeats=values)).schema.features if one.name == "repeats"]
        assert (feature.kind, feature.levels) == ("category", ("False", "True"))


def test_dates_are_days(frame):
    born = frame["born"]
    for values in (born, born.dt.date, born.dt.date.where(np.arange(ROWS) != 2, None)):
        found = make(frame.assign(born=values))
        (feature,) = [one for one in found.schema.features if one.name == "born"]
        rows = found.arrays["row"]
        there = found.arrays["present"]["born"]
        assert feature.kind == "number" and there.sum() == ROWS - values.isna().sum()
        days = (born - pd.Timestamp(0)).dt.days.to_numpy()[rows]
        np.testing.assert_array_equal(found.arrays["numbers"]["born"][there], days[there])
