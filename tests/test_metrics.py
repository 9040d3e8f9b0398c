"""Metrics against closed forms, oracles and what they must refuse."""

import numpy as np
import pytest

from workbench.evaluation import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_mmd_is_unbiased_and_finds_a_shift(rng):
    same = [metrics.mmd(rng.standard_normal((60, 8)), rng.standard_normal((40, 8)), 2.0) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200) + 1e-12
    assert metrics.mmd(rng.standard_normal((60, 8)), 1 + rng.standard_normal((40, 8))) > 10 * np.std(same)


def test_mmd_is_its_definition(rng):
    x, y, s = rng.standard_normal((5, 3)), rng.standard_normal((4, 3)), 1.3

    def k(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2 * s * s))

    within = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 20
    within += sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 20
    assert metrics.mmd(x, y, s) == pytest.approx(within - 2 * between, abs=1e-12)


def test_vendi_counts_what_differs():
    one, many = np.ones((7, 3)), np.eye(6)
    groups = np.repeat(np.eye(4), 5, 0)
    for x, expected in ((one, 1), (many, 6), (groups, 4)):
        assert metrics.vendi(x) == pytest.approx(expected, abs=1e-8)
        assert metrics.vendi(x, q=2) == pytest.approx(expected, abs=1e-8)
    assert metrics.vendi(100 * many, bandwidth=1.0) == pytest.approx(6, abs=1e-8)
    with pytest.raises(ValueError, match="1 of 3 points are zero"):
        metrics.vendi(np.array([[1.0, 0], [0, 1], [0, 0]]))


def test_kolmogorov_of_uniforms():
    x = np.linspace(0, 1, 1001)[:, None]
    assert metrics.kolmogorov(x, x)[0] == 0
    assert metrics.kolmogorov(x, x + 0.25)[0] == pytest.approx(0.25, abs=2e-3)
    assert metrics.kolmogorov(np.hstack([x, x]), np.hstack([x, x + 2])) == pytest.approx([0, 1])


def test_memorisation_tells_copies_from_new_points(rng):
    train, held, new = (rng.standard_normal((200, 6)) for _ in range(3))
    assert metrics.memorisation(train, held, new) == pytest.approx(1, abs=0.1)
    assert metrics.memorisation(train, held, train[:50] + 0.01) < 0.1
    with pytest.raises(ValueError, match="split the pack by groups"):
        metrics.memorisation(train, train, new)


def test_bootstrap_covers_the_mean(rng):
    hits = 0
    for i in range(300):
        low, high = metrics.bootstrap(rng.exponential(size=60), 400, i)
        hits += low <= 1 <= high
    assert 0.88 < hits / 300 < 0.98


# ------------------------------------------------------------------------------------- two sets, against closed forms


def gaussian(rng, n, mean, covariance):
    """n points whose sample mean and covariance (ddof = 1) are exactly these."""
    x = rng.standard_normal((n, len(mean)))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(np.asarray(covariance, float)).T + mean


def test_fad_is_the_distance_of_gaussians(rng):
    x = gaussian(rng, 400, [0, 0], [[4, 0], [0, 1]])
    y = gaussian(rng, 300, [3, 4], [[1, 0], [0, 9]])
    assert metrics.fad(x, y) == pytest.approx(25 + (2 - 1) ** 2 + (1 - 3) ** 2, abs=1e-6)
    a, b = np.array([[2, 1], [1, 2.0]]), np.array([[3, -1], [-1, 1.0]])  # which do not commute
    # for 2 x 2: tr (a b)^1/2 = sqrt(tr(a b) + 2 sqrt(det a det b))
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a + b) - 2 * root
    assert metrics.fad(gaussian(rng, 50, [0, 0], a), gaussian(rng, 70, [0, 0], b)) == pytest.approx(expected, abs=1e-6)


def test_fad_with_fewer_points_than_dimensions(rng):
    # supports at right angles: the root vanishes, and what is left is the means and both traces
    x, y = np.zeros((20, 512)), np.zeros((15, 512))
    x[:, :20], y[:, 20:35] = rng.standard_normal((20, 20)), rng.standard_normal((15, 15))
    between = np.square(x.mean(0) - y.mean(0)).sum() + x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    assert metrics.fad(x, y) == pytest.approx(between, abs=1e-6)
    assert metrics.fad(x, x) == pytest.approx(0, abs=1e-6)
    assert metrics.fad(x, x + 1) == pytest.approx(512, abs=1e-6)
    constant = np.ones((5, 512))
    assert metrics.fad(constant, x) == pytest.approx(np.square(1 - x.mean(0)).sum() + x.var(0, ddof=1).sum(), abs=1e-6)


@pytest.mark.parametrize("shape", [(300, 200, 24), (60, 90, 24), (700, 700, 64)])
def test_fad_and_kid_agree_with_torch_fidelity(rng, shape):
    import torch
    from torch_fidelity import metric_fid, metric_kid

    n, m, d = shape
    x, y = rng.standard_normal((n, d)), 0.8 * rng.standard_normal((m, d)) + 0.2
    statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(v)) for v in (x, y)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert metrics.fad(x, y) == pytest.approx(theirs, abs=1e-6)
    n = min(n, m)
    for gamma in (1.0, 1 / d):
        theirs = metric_kid.kid_features_to_metric(
            *(torch.from_numpy(v[:n]) for v in (x, y)), kid_subsets=1, kid_subset_size=n, kid_kernel="poly",
            kid_kernel_poly_gamma=gamma, kid_kernel_poly_degree=3, kid_kernel_poly_coef0=1.0, rng_seed=0, verbose=False,
        )["kernel_inception_distance_mean"]  # fmt: skip
        ours = metrics.kid(x[:n], y[:n], gamma=gamma)
        assert ours == pytest.approx(theirs, abs=1e-10 * max(1, abs(theirs)))


def test_kid_of_degree_one_is_the_unbiased_distance_of_means(rng):
    x, y = rng.standard_normal((40, 6)), 1 + rng.standard_normal((30, 6))
    noise = x.var(0, ddof=1).sum() / 40 + y.var(0, ddof=1).sum() / 30
    expected = np.square(x.mean(0) - y.mean(0)).sum() - noise
    assert metrics.kid(x, y, degree=1) == pytest.approx(expected, abs=1e-10)


def test_kid_of_equal_distributions_is_zero_on_average(rng):
    same = [metrics.kid(rng.standard_normal((50, 4)), rng.standard_normal((30, 4)), gamma=0.25) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(300)


def test_the_customary_kernel_is_blind_on_unit_vectors_and_ours_is_not(rng):
    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    spread = np.arange(1, 513) ** -0.6
    real, other = (unit(rng.standard_normal((500, 512)) * spread) for _ in range(2))
    collapsed = unit(rng.standard_normal((500, 8)) @ (rng.standard_normal((8, 512)) * spread))
    for gamma, sees in ((1 / 512, False), (1.0, True)):
        some = [(rng.permutation(500)[:100], rng.permutation(500)[:100]) for _ in range(60)]
        null = np.std([metrics.kid(real[a], other[b], gamma=gamma) for a, b in some])
        assert (metrics.kid(real, collapsed, gamma=gamma) > 5 * null) == sees


def test_kad_takes_its_bandwidth_from_the_reference(rng):
    x, y = rng.standard_normal((50, 3)), 5 * rng.standard_normal((40, 3))
    median = np.median([np.linalg.norm(a - b) for i, a in enumerate(x) for b in x[:i]])
    assert metrics.kad(x, y) == pytest.approx(100 * metrics.mmd(x, y, median), abs=1e-10)
    assert metrics.kad(x, y) != pytest.approx(metrics.kad(y, x), rel=0.1)


@pytest.mark.parametrize(("n", "m", "k"), [(100, 100, 5), (60, 130, 3), (7, 9, 5)])
def test_prdc_is_that_of_its_authors(rng, n, m, k, capsys):
    from prdc import compute_prdc

    x, y = rng.standard_normal((n, 8)), 0.7 * rng.standard_normal((m, 8)) + 0.3
    assert metrics.prdc(x, y, k) == pytest.approx(compute_prdc(x, y, k), abs=0)
    with pytest.raises(ValueError, match=f"{k + 1} points is too small; this needs at least {k + 2}"):
        metrics.prdc(x[: k + 1], y, k)


def test_prdc_of_equal_distributions(rng):
    many = [metrics.prdc(rng.standard_normal((200, 6)), rng.standard_normal((200, 6))) for _ in range(30)]
    assert np.mean([m["density"] for m in many]) == pytest.approx(1, abs=0.03)
    assert np.mean([m["coverage"] for m in many]) == pytest.approx(1 - 2**-5, abs=0.01)
    shrunk = metrics.prdc(rng.standard_normal((200, 32)), 0.1 * rng.standard_normal((200, 32)))
    assert shrunk["density"] > 3 and shrunk["recall"] < 0.05


def test_mean_pairwise_distance_is_its_definition(rng):
    x = rng.standard_normal((9, 5))
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = np.mean([1 - u[i] @ u[j] for i in range(9) for j in range(9) if i != j])
    assert metrics.mean_pairwise_distance(x) == pytest.approx(expected, abs=1e-12)


def test_a_classifier_tells_what_differs_and_nothing_else(rng):
    x, same, other = (rng.standard_normal((300, 5)) for _ in range(3))
    assert metrics.auc(x, same) == pytest.approx(0.5, abs=0.08)
    assert metrics.auc(x, other + [2, 0, 0, 0, 0]) > 0.88
    with pytest.raises(ValueError, match="9 points is too small"):
        metrics.auc(x, same[:9])


def test_a_probe_reads_labels_that_are_there(rng):
    labels = np.array(["a", "b", "c"])[rng.integers(3, size=300)]
    x = np.stack([labels == "a", labels == "b"], 1) + 0.1 * rng.standard_normal((300, 2))
    assert metrics.linear_probe(x[:200], labels[:200], x[200:], labels[200:]) > 0.95
    mixed = rng.permutation(labels)
    assert metrics.linear_probe(x[:200], mixed[:200], x[200:], mixed[200:]) < 0.55
    assert metrics.silhouette(x, labels) > 0.7 > 0.1 > metrics.silhouette(x, mixed)
    with pytest.raises(ValueError, match="all points have the same"):
        metrics.linear_probe(x, ["a"] * 300, x, labels)


def test_mig_is_one_where_a_factor_has_one_latent_and_zero_where_two_share_it(rng):
    factors = rng.integers(10, size=(4000, 2))
    own = np.concatenate([factors + 0.001 * rng.standard_normal((4000, 2)), rng.standard_normal((4000, 1))], 1)
    assert (metrics.mig(own, factors) > 0.85).all()  # bins of equal counts cut some values in two
    shared = np.concatenate([own, own], 1)
    np.testing.assert_allclose(metrics.mig(shared, factors), 0, atol=1e-12)
    assert np.isnan(metrics.mig(own, np.ones((4000, 1))))


def test_an_interval_by_subsets_covers_as_often_as_it_says(rng):
    def mean(v):
        return float(v.mean())

    hits = 0
    for i in range(300):
        low, high = metrics.subsampled(mean, rng.exponential(size=(80, 1)), seed=i)
        hits += low <= 1 <= high
    assert 0.9 < hits / 300 < 0.98


MEASURES = (
    metrics.mmd,
    metrics.kolmogorov,
    metrics.fad,
    metrics.kid,
    metrics.kad,
    metrics.prdc,
    metrics.auc,
)


@pytest.mark.parametrize("measure", MEASURES)
def test_unfit_sets_are_refused_with_numbers(measure, rng):
    x = rng.standard_normal((300, 3))
    with pytest.raises(ValueError, match="3 and of 2 dimensions"):
        measure(x, x[:, :2])
    with pytest.raises(ValueError, match="1 points is too small"):
        measure(x, x[:1])
    with pytest.raises(ValueError, match="100 of 300 points that are not finite"):
        measure(x, np.where(np.arange(300)[:, None] % 3 == 2, np.nan, x))


def test_arguments_that_mean_nothing_are_refused():
    x = np.random.default_rng(0).standard_normal((30, 4))
    for sentence, call in {
        "neighbour number 0": lambda: metrics.prdc(x, x, k=0),
        "gamma nan": lambda: metrics.kid(x, x, gamma=np.nan),
        "bandwidth of 0": lambda: metrics.vendi(x, bandwidth=0),
        "order of -1": lambda: metrics.vendi(x, q=-1),
        "no values": lambda: metrics.bootstrap([]),
        "0 repetitions": lambda: metrics.subsampled(metrics.fad, x, x, repeats=0),
    }.items():
        with pytest.raises(ValueError, match=sentence):
            call()
    assert metrics.vendi(np.eye(4)[[0, 0, 1]], q=np.inf) == pytest.approx(1.5)
