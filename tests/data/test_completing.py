"""Rows completed from what they have: against least squares and neighbours in NumPy; what is read, and what stays."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

import fedjax_edu as fe
from fedjax_edu.data import Population, complete_modalities

ROWS = 60
NAMED = {"image": ("image", "has.image"), "text": ("text", "has.text"), "audio": ("audio", "has.audio")}
RETRIEVAL = KNeighborsRegressor(3, metric="cosine")


def made(seed: int = 0, **changes: np.ndarray) -> Population:
    random = np.random.default_rng(seed)
    image = random.normal(size=(ROWS, 2, 3)).astype(np.float32)
    has = {"image": random.random((ROWS, 2)) < 0.7, "text": random.random(ROWS) < 0.7, "audio": random.random(ROWS) < 0.5}
    text = random.normal(size=(ROWS, 4)).astype(np.float32)
    arrays = {"image": image, "text": text, "audio": random.normal(size=ROWS).astype(np.float32), "has": has, "y": random.normal(size=ROWS)}
    return Population.from_arrays(arrays | changes, [0, 25, ROWS], allow_nonfinite=("image", "text", "audio", "y"))


def seen(population: Population) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Flat numbers with zeros where absent, and presence, by modality."""
    arrays = population.arrays
    numbers = {
        "image": np.where(arrays["has"]["image"][..., None], arrays["image"], 0).reshape(ROWS, -1),
        "text": np.where(arrays["has"]["text"][:, None], arrays["text"], 0),
        "audio": np.where(arrays["has"]["audio"], arrays["audio"], 0)[:, None],
    }
    return numbers, {"image": arrays["has"]["image"].any(1), "text": arrays["has"]["text"], "audio": arrays["has"]["audio"]}


def least_squares(inputs, targets, asked):
    ones = np.ones((len(inputs), 1))
    solution, *_ = np.linalg.lstsq(np.hstack([inputs, ones]).astype(float), targets.astype(float), rcond=None)
    return np.hstack([asked, np.ones((len(asked), 1))]) @ solution


def three_nearest(inputs, targets, asked):
    units = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (inputs, asked)]
    order = np.argsort(-(units[1] @ units[0].T), axis=1)[:, :3]
    return targets[order].mean(1)


@pytest.mark.parametrize(("model", "twin"), [(LinearRegression(), least_squares), (RETRIEVAL, three_nearest)])
@pytest.mark.parametrize("other", [False, True])
def test_each_row_is_guessed_from_rows_that_have_what_it_has_and_what_it_lacks(model, twin, other):
    population, source = made(), made(seed=1) if other else None
    whole = complete_modalities(population, NAMED, model, source=source)
    numbers, has = seen(population)
    learned, shown = (numbers, has) if source is None else seen(source)
    found, _ = seen(whole)
    guessed = 0
    for row in range(ROWS):
        given = [name for name in NAMED if has[name][row]]
        for name in set(NAMED) - set(given):
            rows = np.all([shown[one] for one in (*given, name)], axis=0)
            if not given:
                assert not whole.leaves()[NAMED[name][1]][row].any()
                continue
            inputs, asked = (np.hstack([each[one] for one in given]) for each in (learned, numbers))
            expected = twin(inputs[rows], learned[name][rows], asked[row : row + 1])[0]
            np.testing.assert_allclose(found[name][row], expected, rtol=1e-3, atol=1e-3)
            guessed += 1
    assert guessed > 30
    for name, (values, mask) in NAMED.items():
        np.testing.assert_array_equal(whole.leaves()[values][has[name]], population.leaves()[values][has[name]])
        np.testing.assert_array_equal(whole.leaves()[mask][has[name]], population.leaves()[mask][has[name]])


@pytest.mark.parametrize("model", [LinearRegression(), RETRIEVAL, 0.0])
def test_targets_and_what_is_absent_are_never_read(model):
    """Not even as NaN; and a test side, completed by a training side, changes nothing in it."""
    population = made()
    has = population.arrays["has"]
    poison = {
        "y": np.full(ROWS, np.nan),
        "image": np.where(has["image"][..., None], population.arrays["image"], np.nan),
        "text": np.where(has["text"][:, None], population.arrays["text"], np.nan),
        "audio": np.where(has["audio"], population.arrays["audio"], np.nan),
    }
    plain, poisoned = (complete_modalities(one, NAMED, model) for one in (population, made(**poison)))
    for values, mask in NAMED.values():
        there = plain.leaves()[mask]
        np.testing.assert_array_equal(poisoned.leaves()[mask], there)
        np.testing.assert_array_equal(poisoned.leaves()[values][there], plain.leaves()[values][there])
    np.testing.assert_array_equal(plain.arrays["y"], population.arrays["y"])


def test_a_number_fills_everything():
    population = made()
    _, has = seen(population)
    filled = complete_modalities(population, NAMED, 2.5)
    assert filled.arrays["text"].dtype == np.float32
    for name, (values, mask) in NAMED.items():
        assert (filled.leaves()[values][~has[name]] == 2.5).all() and filled.leaves()[mask][~has[name]].all()


def test_what_no_row_shows_together_stays_absent():
    has = {"image": np.zeros((ROWS, 2), bool), "text": np.arange(ROWS) % 2 == 0, "audio": np.arange(ROWS) % 2 == 1}
    whole = complete_modalities(made(has=has), NAMED, LinearRegression())
    for name, mask in has.items():
        np.testing.assert_array_equal(whole.arrays["has"][name], mask)


def test_rows_without_something_can_be_left_out():
    population = made()
    whole = population.select_examples(population.arrays["has"]["text"])
    assert whole.num_examples == population.arrays["has"]["text"].sum() and whole.num_clients == 2
    np.testing.assert_array_equal(whole.client(1)["y"], population.client(1)["y"][population.client(1)["has"]["text"]])


@pytest.mark.parametrize(
    ("named", "model", "message"),
    [
        ({"image": NAMED["image"]}, RETRIEVAL, r"^modalities: got \['image'\]; name at least two"),
        (NAMED | {"video": ("video", "has.text")}, RETRIEVAL, r"^modalities\['video'\]: got video; name a leaf of floats: audio, image"),
        (NAMED | {"video": ("text", "y")}, RETRIEVAL, r"^modalities\['video'\]: got y; name a leaf of booleans: has.audio"),
        (NAMED | {"video": ("has.text", "has.text")}, RETRIEVAL, "name a leaf of floats"),
        (NAMED, float("nan"), r"^model: got nan; use one whose guesses are finite: those of image are not"),
        (NAMED, "mean", r"^model: got mean; pass a regressor of scikit-learn, or a number"),
    ],
)
def test_arguments_that_make_no_sense(named, model, message):
    with pytest.raises(fe.errors.ArgumentError, match=message):
        complete_modalities(made(), named, model)


def test_a_source_of_other_shapes_is_refused():
    source = made(text=np.zeros((ROWS, 5), np.float32))
    with pytest.raises(fe.errors.ArgumentError, match=r"^source: got 5 numbers a row of text; use 4, as the population has"):
        complete_modalities(made(), NAMED, RETRIEVAL, source=source)


@pytest.mark.parametrize("rows", [np.ones(ROWS), np.ones(ROWS - 1, bool)])
def test_rows_are_selected_by_booleans(rows):
    with pytest.raises(fe.errors.ArgumentError, match=r"^rows: got .*; use one boolean for each of the 60 rows"):
        made().select_examples(rows)
