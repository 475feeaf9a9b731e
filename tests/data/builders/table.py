"""The data sets that `load` knows, with counts that others have published or that were taken from the R tables themselves."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set: its R table, its clients and what it leaves out."""

    name: str
    source: str
    client: str  # the leaf that numbers clients
    clients: int
    rows: int
    sizes: tuple[int, ...]  # rows a client: smallest, quartiles, largest
    kind: str = "school"
    sorted_by: str | None = None  # the leaf that sorts the rows of a client
    left_out: tuple[str, ...] = ()  # columns of the table that are no leaves
    made: tuple[str, ...] = ()  # leaves that are no columns of the table, or otherwise
    distinct: Mapping[str, int] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)  # what is not named here has no gap
    levels: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)  # rows of each level


ROWS = [
    DataSet(
        "bdf",
        source="mlmRev::bdf",
        client="schoolNR",
        clients=131,
        rows=2_287,
        sizes=(4, 11, 17, 23, 35),
        left_out=("IQ_ver_cen", "avg_IQ_ver_cen", "grpSiz_cen"),
        distinct={"pupilNR": 2_287, "classNR": 133},
        levels={"sex": {"0": 1_194, "1": 1_093}, "denomina": {"1": 775, "2": 803, "3": 617, "4": 92}},
    ),
    DataSet(
        "chem97",
        source="mlmRev::Chem97",
        client="school",
        clients=2_410,
        rows=31_022,
        sizes=(1, 4, 8, 17, 188),
        left_out=("gcsecnt",),
        distinct={"lea": 131, "student": 31_022, "score": 6, "age": 12},
        levels={"gender": {"M": 17_262, "F": 13_760}},
    ),
    DataSet(
        "egsingle",
        source="mlmRev::egsingle",
        client="schoolid",
        clients=60,
        rows=7_230,
        sizes=(18, 66, 103, 162, 387),
        sorted_by="childid",
        distinct={"childid": 1_721, "year": 6, "grade": 6},
        levels={"female": {"Female": 3_545, "Male": 3_685}},
    ),
    DataSet(
        "exam",
        source="mlmRev::Exam",
        client="school",
        clients=65,
        rows=4_059,
        sizes=(2, 42, 60, 77, 198),
        distinct={"student": 650},
        levels={"sex": {"F": 2_436, "M": 1_623}, "schgend": {"mixed": 2_169, "boys": 513, "girls": 1_377}},
    ),
    DataSet(
        "gcsemv",
        source="mlmRev::Gcsemv",
        client="school",
        clients=73,
        rows=1_905,
        sizes=(2, 10, 22, 36, 104),
        missing={"written": 202, "course": 180},
        levels={"gender": {"F": 1_128, "M": 777}},
    ),
    DataSet(
        "hsb82",
        source="mlmRev::Hsb82",
        client="school",
        clients=160,
        rows=7_185,
        sizes=(14, 35, 47, 54, 67),
        left_out=("cses",),
        levels={"minrty": {"No": 5_211, "Yes": 1_974}, "sx": {"Male": 3_390, "Female": 3_795}},
    ),
    DataSet(
        "insteval",
        source="lme4::InstEval",
        client="d",
        clients=1_128,
        rows=73_421,
        sizes=(10, 16, 31, 83, 792),
        kind="lecturer",
        sorted_by="s",
        distinct={"s": 2_972, "dept": 14, "studage": 4, "lectage": 6, "y": 5},
    ),
    DataSet(
        "scotssec",
        source="mlmRev::ScotsSec",
        client="primary",
        clients=148,
        rows=3_435,
        sizes=(1, 8, 20, 36, 72),
        distinct={"second": 19, "attain": 10, "social": 4},
        levels={"sex": {"M": 1_739, "F": 1_696}},
    ),
    DataSet(
        "star",
        source="mlmRev::star",
        client="sch",
        clients=80,
        rows=26_796,
        sizes=(54, 261, 318, 405, 826),
        sorted_by="id",
        left_out=("yrs",),
        made=("birthq", "read_present", "math_present"),
        distinct={"id": 11_598, "tch": 1_387},
        missing={
            "birthq": 66,
            "birthy": 73,
            "clad": 809,
            "eth": 146,
            "exp": 193,
            "hdeg": 167,
            "math": 2_183,
            "read": 2_534,
            "ses": 828,
            "sx": 20,
            "trace": 227,
        },
        levels={"cltype": {"small": 8_015, "reg": 9_192, "reg+A": 9_589}},
    ),
    DataSet(
        "ucla_f18",
        source="openintro::ucla_f18",
        client="subject",
        clients=173,
        rows=3_950,
        sizes=(1, 5, 12, 31, 136),
        kind="subject",
        left_out=("year", "term", "subject_abbr"),
        distinct={"course": 3_124, "course_num": 1_602},
        missing={"course_numeric": 3},
    ),
]
