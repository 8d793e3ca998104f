import numpy as np
import pytest

from tfsparse.pruners.effective_number import effective_number, sparsity_prior


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[1, -1], [1, 1]], 4),
        ([0, 0, -2.5, 0], 1),
        ([3, 1], 1),  # 1 / (0.75**2 + 0.25**2) = 1.6
        ([3, -1, 1, 0], 2),  # 25 / 11
        ([0, 0, 0], 0),
        ([0.1] * 7, 7),  # exactly 7, whatever the round-off
    ],
)
def test_golden_numbers(scores, expected):
    assert effective_number(np.array(scores, "float32")) == expected


def test_the_scale_does_not_matter():
    values = np.random.default_rng(0).normal(size=1000)
    assert effective_number(values) == effective_number(1e-20 * values)


def test_the_priors_of_the_usual_initializers():
    """1 - mean(|w|)**2 / mean(w**2): a quarter of uniform numbers, 1 - 2 / pi of normal ones."""
    random = np.random.default_rng(0)
    assert sparsity_prior(random.uniform(-1, 1, (500, 500))) == pytest.approx(0.25, abs=0.005)
    assert sparsity_prior(random.normal(size=(500, 500))) == pytest.approx(1 - 2 / np.pi, abs=0.005)
