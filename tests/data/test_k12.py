"""Eight studies as one population, against counts and pooled scores that were published with the school protocol."""

import numpy as np
import pytest

import fedjax_edu as fe
from fedjax_edu.data.studies import K12, STUDIES, study_of

# rows, schools and the score of pooled ridge or logistic regression, out of fold by GroupKFold(5); the protocol has the GCSE scores of
# pupils with both marks only, so none is given here
PROTOCOL = {
    "hsb.mach": (7_185, 160, 0.202),
    "star.math": (13_527, 80, 0.693),
    "star.read": (13_527, 80, 0.680),
    "star.leaves": (19_994, 80, 0.712),
    "egsingle.math": (5_509, 60, 0.750),
    "egsingle.retained": (1_721, 60, 0.837),
    "bdf.lang": (2_287, 131, 0.603),
    "bdf.arith": (2_287, 131, 0.552),
    "exam.norm": (4_059, 65, 0.383),
    "scots.attain": (3_435, 148, 0.529),
    "chem.score": (31_022, 2_410, 0.451),
    "gcse.written": (1_703, 73, None),
    "gcse.course": (1_725, 73, None),
}


@pytest.fixture(scope="module")
def k12(prepared):
    return fe.data.load("k12", prepared)


def study_of_rows(population):
    return population.attributes["study"][population.row_clients]


def test_every_school_is_a_client_of_one_study(k12):
    assert k12.num_clients == 3_127
    assert k12.schema.studies == K12
    assert [STUDIES[code] for code in k12.attributes["study"]] == [study_of(id_) for id_ in k12.ids.tolist()]


@pytest.mark.parametrize("task", PROTOCOL)
def test_rows_and_schools_of_a_task(k12, task):
    present = k12.arrays["present"][task]
    assert (present.sum(), len(np.unique(k12.row_clients[present]))) == PROTOCOL[task][:2]


def test_tasks_are_those_of_the_protocol(k12):
    assert [task.name for task in k12.schema.tasks] == list(PROTOCOL)
    assert [task.name for task in k12.schema.tasks if task.binary] == ["star.leaves", "egsingle.retained"]


def test_a_school_has_nothing_of_other_studies(k12):
    own = study_of_rows(k12)
    for column in (*k12.schema.features, *k12.schema.tasks):
        elsewhere = own != STUDIES.index(column.study)
        assert not k12.arrays["present"][column.name][elsewhere].any()
        assert k12.arrays["present"][column.name][~elsewhere].any()
    for name, codes in k12.arrays["categories"].items():
        np.testing.assert_array_equal(codes >= 0, k12.arrays["present"][name])


def test_scores_are_raw(k12):
    mach = k12.arrays["targets"]["hsb.mach"][k12.arrays["present"]["hsb.mach"]]
    assert (mach.min(), mach.max()) == (np.float32(-2.832), np.float32(24.993))


@pytest.mark.parametrize(
    ("target", "hidden"),
    [
        ("star.math", ("star.math_same_year", "star.read_same_year")),
        ("star.read", ("star.math_same_year", "star.read_same_year")),
        ("egsingle.math", ("egsingle.math_first",)),
        ("egsingle.retained", ("egsingle.math_1_before", "egsingle.math_2_before", "egsingle.grade", "egsingle.mobility")),
        ("gcse.written", ("gcse.written_score",)),
        ("gcse.course", ("gcse.course_score",)),
    ],
)
def test_an_example_never_sees_what_gives_its_target_away(k12, target, hidden):
    rows = k12.arrays["present"][target]
    for name in hidden:
        assert not k12.arrays["present"][name][rows].any()
        assert k12.arrays["present"][name].any()


def test_a_pupil_who_changed_school_stays_with_the_first_one(k12):
    star = study_of_rows(k12) == STUDIES.index("star")
    pupil, school = k12.arrays["unit"][star], k12.row_clients[star]
    assert len(np.unique(pupil)) == len(np.unique(np.stack([pupil, school]), axis=1).T)


def test_pupils_of_different_studies_are_different(k12):
    pairs = np.unique(np.stack([k12.arrays["unit"], study_of_rows(k12)]), axis=1)
    assert len(np.unique(k12.arrays["unit"])) == pairs.shape[1]


@pytest.mark.parametrize("names", [(), ("hsb", "oulad"), None, "hsb", [["hsb"]]])
def test_unknown_studies_are_refused(names):
    with pytest.raises(fe.errors.ArgumentError, match=r"^studies: got .*pass a list of any of hsb, star, egsingle"):
        fe.data.load_studies(names)


@pytest.mark.slow
@pytest.mark.parametrize("task", [name for name, (_, _, score) in PROTOCOL.items() if score is not None])
def test_pooled_regression_scores_as_the_protocol_says(k12, task):
    """The rows, inputs and targets are those of the published references: the same model finds the same score."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.metrics import r2_score, roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    arrays, binary = k12.arrays, task in ("star.leaves", "egsingle.retained")
    rows = np.flatnonzero(arrays["present"][task])
    own = [feature for feature in k12.schema.features if feature.study == task.split(".")[0]]
    numbers = {
        feature.name: np.where(arrays["present"][feature.name], arrays["numbers"][feature.name], np.nan)[rows]
        for feature in own
        if feature.kind == "number" and arrays["present"][feature.name][rows].any()
    }
    codes = {feature.name: arrays["categories"][feature.name][rows] for feature in own if feature.kind == "category"}
    transformer = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), list(numbers)),
        (OneHotEncoder(handle_unknown="ignore", min_frequency=5), list(codes)),
    )
    model = make_pipeline(transformer, LogisticRegression(max_iter=500) if binary else RidgeCV(np.logspace(-2, 3, 12)))
    targets = arrays["targets"][task][rows]
    predicted = cross_val_predict(
        model,
        pd.DataFrame(numbers | codes),
        targets,
        groups=k12.row_clients[rows],
        cv=GroupKFold(5),
        method="predict_proba" if binary else "predict",
    )
    score = roc_auc_score(targets, predicted[:, 1]) if binary else r2_score(targets, predicted)
    assert score == pytest.approx(PROTOCOL[task][2], abs=0.007)
