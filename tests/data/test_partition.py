"""Partitions of a central data set: every row once, and the distribution each function promises."""

import numpy as np
import pytest
import scipy.stats

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data import partition

N = 600
LABELS = np.random.default_rng(0).choice(6, N, p=[0.3, 0.25, 0.2, 0.15, 0.08, 0.02])
ARRAYS = {"row": np.arange(N), "deep": {"y": LABELS}}

MAKERS = {
    "iid": lambda seed: partition.iid(ARRAYS, 7, seed=seed, labels="deep.y"),
    "dirichlet": lambda seed: partition.dirichlet(ARRAYS, "deep.y", 7, alpha=0.3, seed=seed),
    "shards": lambda seed: partition.shards(ARRAYS, LABELS, 7, shards_per_client=2, seed=seed),
    "lognormal": lambda seed: partition.lognormal_sizes(ARRAYS, 7, sigma=1.0, seed=seed, labels=LABELS),
    "zipf": lambda seed: partition.zipf_sizes(ARRAYS, 7, exponent=1.2, seed=seed, labels=LABELS),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_row_has_one_client_and_statistics_count_them(make):
    population, statistics = make(3)
    np.testing.assert_array_equal(np.sort(population.arrays["row"]), np.arange(N))
    np.testing.assert_array_equal(population.arrays["deep"]["y"], LABELS[population.arrays["row"]])
    np.testing.assert_array_equal(statistics.sizes, population.sizes)
    for position in range(population.num_clients):
        client = population.client(position)
        assert (np.diff(client["row"]) > 0).all()
        np.testing.assert_array_equal(statistics.histograms[position], np.bincount(client["deep"]["y"], minlength=6))
    np.testing.assert_array_equal(statistics.labels, np.arange(6))
    assert statistics.size_quantiles["max"] == population.sizes.max()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_seeds_decide(make):
    first, again, other = (make(seed)[0].arrays["row"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_label_statistics_agree_with_scipy():
    _, statistics = MAKERS["dirichlet"](3)
    everyone = np.bincount(LABELS) / N
    for position, histogram in enumerate(statistics.histograms):
        shares = histogram / histogram.sum()
        assert statistics.label_entropy[position] == pytest.approx(scipy.stats.entropy(shares))
        assert statistics.total_variation[position] == pytest.approx(np.maximum(shares - everyone, 0).sum())


def test_a_client_without_rows_has_no_label_statistics():
    _, statistics = partition.iid({"x": np.zeros(2)}, 3, seed=0, labels=np.array([0, 1]))
    np.testing.assert_array_equal(statistics.sizes, [1, 1, 0])
    np.testing.assert_array_equal(np.isnan(statistics.label_entropy), [False, False, True])
    np.testing.assert_allclose(statistics.total_variation[:2], 0.5)


def test_iid_sizes_differ_by_one_row_at_most_and_labels_spread():
    population, statistics = partition.iid({"x": np.zeros(10_003)}, 10, seed=0, labels=np.arange(10_003) % 4)
    assert np.ptp(population.sizes) == 1
    assert scipy.stats.chi2_contingency(statistics.histograms).pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_dirichlet_shares_have_the_moments_of_the_dirichlet(alpha):
    classes, rows, clients, seeds = 40, 1000, 5, 25
    label = np.repeat(np.arange(classes), rows)
    shares = np.concatenate(
        [partition.dirichlet({"x": label}, label, clients, alpha=alpha, seed=seed)[1].histograms.T / rows for seed in range(seeds)]
    )
    variance = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    draws = len(shares)
    np.testing.assert_allclose(shares.mean(axis=0), 1 / clients, atol=4 * np.sqrt(variance / draws))
    fourth = scipy.stats.beta(alpha, (clients - 1) * alpha).stats("k") + 3
    np.testing.assert_allclose(shares.var(axis=0), variance, rtol=4 * np.sqrt((fourth - 1) / draws))
    np.testing.assert_allclose(np.cov(shares[:, :2].T)[0, 1], -1 / clients**2 / (clients * alpha + 1), rtol=0.3)


def test_dirichlet_shares_are_beta_distributed():
    label = np.repeat(np.arange(500), 400)
    histograms = partition.dirichlet({"x": label}, label, 5, alpha=2.0, seed=1)[1].histograms
    assert scipy.stats.kstest(histograms[0] / 400, scipy.stats.beta(2.0, 8.0).cdf).pvalue > 0.001


def test_dirichlet_keeps_the_minimum_size():
    free = [partition.dirichlet(ARRAYS, LABELS, 7, alpha=0.3, seed=seed)[1].sizes.min() for seed in range(20)]
    held = [partition.dirichlet(ARRAYS, LABELS, 7, alpha=0.3, seed=seed, min_size=20)[1].sizes.min() for seed in range(20)]
    assert min(free) < 20 <= min(held)


@pytest.mark.parametrize("per_client", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_shards_bound_the_labels_of_a_client(per_client, seed):
    population, statistics = partition.shards(ARRAYS, LABELS, 30, shards_per_client=per_client, seed=seed)
    assert (statistics.histograms > 0).sum(axis=1).max() <= per_client
    assert population.sizes.min() > 0


def test_shards_of_balanced_labels_are_equal():
    population, _ = partition.shards({"x": np.zeros(1000)}, np.arange(1000) % 10, 20, shards_per_client=2, seed=0)
    np.testing.assert_array_equal(population.sizes, 50)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_lognormal_sizes_recover_sigma(sigma):
    sizes = partition.lognormal_sizes({"x": np.zeros(1_000_000, bool)}, 2000, sigma=sigma, seed=0)[1].sizes
    assert np.log(sizes).std() == pytest.approx(sigma, rel=0.06)  # four standard errors: 4 / sqrt(2 · 2000)
    assert scipy.stats.kstest(scipy.stats.zscore(np.log(sizes)), "norm").pvalue > 0.001


@pytest.mark.parametrize("exponent", [0.5, 1.5])
def test_zipf_sizes_recover_the_exponent(exponent):
    sizes = partition.zipf_sizes({"x": np.zeros(1_000_000, bool)}, 100, exponent=exponent, seed=0, min_size=0)[1].sizes
    slope = scipy.stats.linregress(np.log(np.arange(1, 101)), np.log(np.sort(sizes)[::-1])).slope
    assert slope == pytest.approx(-exponent, abs=0.01)
    assert not (np.diff(sizes) <= 0).all()  # ranks are dealt at random


@pytest.mark.parametrize("make", [partition.lognormal_sizes, partition.zipf_sizes], ids=["lognormal", "zipf"])
def test_skewed_sizes_keep_the_minimum(make):
    skew = {"sigma": 3.0} if make is partition.lognormal_sizes else {"exponent": 3.0}
    assert make(ARRAYS, 50, seed=0, min_size=5, **skew)[1].sizes.min() >= 5


KEYS = {
    "integers": (np.array([7, 3, 7, 3, 90]), [3, 7, 90], [3, 7, 90]),
    "strings": (np.array(["b", "a", "b", "a", "c"]), ["a", "b", "c"], [0, 1, 2]),
    "objects": (np.array(["b", "a", "b", "a", "c"], object), ["a", "b", "c"], [0, 1, 2]),
    "negative integers": (np.array([7, -3, 7, -3, 90]), [-3, 7, 90], [0, 1, 2]),
    "days": (np.array(["2024-02", "2024-01", "2024-02", "2024-01", "2024-03"], "M8[D]"), None, [0, 1, 2]),
}


@pytest.mark.parametrize(("key", "keys", "ids"), KEYS.values(), ids=KEYS)
def test_natural_groups_by_key_whatever_the_order_of_rows(key, keys, ids):
    population, statistics = partition.natural({"row": np.arange(5)}, key)
    assert population.ids.tolist() == ids
    assert keys is None or statistics.keys.tolist() == keys
    assert [population.client(position)["row"].tolist() for position in range(3)] == [[1, 3], [0, 2], [4]]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(5)
        moved, names = partition.natural({"row": np.arange(5)[order]}, key[order])
        np.testing.assert_array_equal(moved.ids, population.ids)
        np.testing.assert_array_equal(names.keys, statistics.keys)
        assert [sorted(moved.client(position)["row"].tolist()) for position in range(3)] == [[1, 3], [0, 2], [4]]


def test_natural_ids_do_not_depend_on_other_clients():
    key = np.array([5, 9, 5, 12])
    rows = np.isin(key, [9, 12])
    assert partition.natural({"x": np.arange(4)[rows]}, key[rows])[0].ids.tolist() == [9, 12]


def test_nonfinite_leaves_pass_by_name():
    population, _ = partition.iid({"x": np.array([np.nan, 1, 2])}, 3, seed=0, allow_nonfinite=("x",))
    assert population.allow_nonfinite == ("x",)
    assert np.isnan(population.arrays["x"]).sum() == 1


REFUSED = {
    "no client": (lambda: partition.iid(ARRAYS, 0, seed=0), "clients", "0"),
    "half a client": (lambda: partition.iid(ARRAYS, 2.5, seed=0), "clients", "2.5"),
    "seed": (lambda: partition.iid(ARRAYS, 2, seed=-1), "seed", "-1"),
    "alpha": (lambda: partition.dirichlet(ARRAYS, LABELS, 2, alpha=0.0, seed=0), "alpha", "0.0"),
    "infinite alpha": (lambda: partition.dirichlet(ARRAYS, LABELS, 2, alpha=np.inf, seed=0), "alpha", "inf"),
    "unreachable minimum": (lambda: partition.dirichlet(ARRAYS, LABELS, 7, alpha=0.01, seed=0, min_size=80), "min_size", "0.01"),
    "impossible minimum": (lambda: partition.dirichlet(ARRAYS, LABELS, 7, alpha=9.0, seed=0, min_size=100), "min_size", "100"),
    "negative minimum": (lambda: partition.zipf_sizes(ARRAYS, 7, exponent=1.0, seed=0, min_size=-1), "min_size", "-1"),
    "large minimum": (lambda: partition.lognormal_sizes(ARRAYS, 7, sigma=1.0, seed=0, min_size=90), "min_size", "allow 85"),
    "sigma": (lambda: partition.lognormal_sizes(ARRAYS, 7, sigma=-1.0, seed=0), "sigma", "-1.0"),
    "exponent": (lambda: partition.zipf_sizes(ARRAYS, 7, exponent="1", seed=0), "exponent", "1"),
    "fewer shards than labels": (lambda: partition.shards(ARRAYS, LABELS, 2, seed=0), "shards_per_client", "labels (6)"),
    "more shards than rows": (lambda: partition.shards(ARRAYS, LABELS, 400, seed=0), "shards_per_client", "rows (600)"),
    "no shard": (lambda: partition.shards(ARRAYS, LABELS, 7, shards_per_client=0, seed=0), "shards_per_client", "0"),
    "real labels": (lambda: partition.dirichlet(ARRAYS, LABELS / 1, 7, alpha=1.0, seed=0), "labels", "float64"),
    "unknown labels": (lambda: partition.shards(ARRAYS, "y", 7, seed=0), "labels", "deep.y"),
    "short labels": (lambda: partition.iid(ARRAYS, 7, seed=0, labels=LABELS[:5]), "labels", "(5,)"),
    "unknown key": (lambda: partition.natural(ARRAYS, "school"), "key", "school"),
    "mixed key": (lambda: partition.natural({"x": np.zeros(2)}, np.array([1, "a"], object)), "key", "object"),
    "no rows": (lambda: partition.natural({"x": np.zeros(0)}, np.zeros(0)), "arrays", "no rows"),
    "no labels": (lambda: partition.iid(ARRAYS, 7, seed=0)[1].label_entropy, "labels", "None"),
}


@pytest.mark.parametrize(("call", "argument", "shown"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_errors(call, argument, shown):
    with pytest.raises(ArgumentError) as raised:
        call()
    assert raised.value.argument == argument
    assert shown in str(raised.value)


def test_data_errors_name_the_rows_of_the_caller():
    with pytest.raises(DataError, match=r"arrays\.x: got nan in row 2"):
        partition.iid({"x": np.array([0, 1, np.nan])}, 2, seed=0)
    with pytest.raises(DataError, match=r"arrays\.y: got 2 rows"):
        partition.iid({"x": np.zeros(3), "y": np.zeros(2)}, 2, seed=0)
