"""Metrics against closed forms, oracles and what they must refuse."""

import numpy as np
import pytest

from workbench import metrics


@pytest.fixture(scope="module")
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


@pytest.mark.parametrize("measure", [metrics.mmd, metrics.kolmogorov])
def test_unfit_points_are_refused_with_numbers(measure, rng):
    x = rng.standard_normal((5, 3))
    with pytest.raises(ValueError, match="3 and of 2 dimensions"):
        measure(x, x[:, :2])
    with pytest.raises(ValueError, match="1 points is too small"):
        measure(x, x[:1])
    with pytest.raises(ValueError, match="1 of 5 points"):
        measure(x, np.where(np.arange(5)[:, None] == 2, np.nan, x))
