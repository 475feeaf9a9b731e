"""Courses of a university under the school protocol, against the raw data set and a published score."""

import numpy as np
import pytest

import fedjax_edu as fe


@pytest.fixture(scope="module")
def courses(prepared):
    return fe.data.load_studies(["courses"], prepared)


def test_subjects_are_clients_and_titles_are_texts(courses, prepared):
    raw = fe.data.load("ucla_f18", prepared)
    assert courses.num_clients == 131
    assert courses.sizes.sum() == 3_855  # of 3,950: three have no number, 92 are of subjects with fewer than five courses
    titles = np.array(courses.texts["courses.title"])[courses.arrays["texts"]["courses.title"]]
    known = {}
    for position, (name, number) in enumerate(zip(raw.arrays["course"], raw.arrays["course_numeric"], strict=True)):
        known.setdefault((int(raw.ids[raw.row_clients[position]]), raw.texts["course"][name]), set()).add(bool(number >= 100))
    subject = courses.ids[courses.row_clients] % 1_000_000
    upper = courses.arrays["targets"]["courses.upper"] > 0
    assert all(there in known[int(one), title] for one, title, there in zip(subject, titles.tolist(), upper.tolist(), strict=True))


def test_the_number_of_a_course_is_no_input(courses):
    assert [feature.kind for feature in courses.schema.features] == ["number"] * 7 + ["text"]
    assert not any("num" in feature.name for feature in courses.schema.features)


def test_words_of_titles_score_as_was_published(courses):
    """Reference: .866, logistic regression on titles, subjects held out."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    titles = np.array(courses.texts["courses.title"])[courses.arrays["texts"]["courses.title"]]
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(titles)
    upper, subject = courses.arrays["targets"]["courses.upper"] > 0, courses.ids[courses.row_clients]
    scores = []
    for train, test in GroupKFold(5).split(words, groups=subject):
        model = LogisticRegression(C=3.0, max_iter=1000).fit(words[train], upper[train])
        scores.append(roc_auc_score(upper[test], model.decision_function(words[test])))
    assert np.mean(scores) == pytest.approx(0.866, abs=0.005)
