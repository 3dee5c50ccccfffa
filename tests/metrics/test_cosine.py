import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform

from semiclip.metrics import _cosine
from semiclip.metrics._cosine import normalise, pair_position, pairwise_cosines


def test_normalise_equals_torch_and_keeps_the_kind():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    x[1] = 0
    expected = torch.nn.functional.normalize(torch.tensor(x), dim=1, eps=1e-12)
    assert normalise(x).dtype == np.float32
    np.testing.assert_allclose(normalise(x), expected, rtol=1e-6)
    torch.testing.assert_close(normalise(torch.tensor(x)), expected)


def test_pairwise_equals_scipy_over_blocks(monkeypatch):
    monkeypatch.setattr(_cosine, "BLOCK", 4)
    x = np.random.default_rng(0).normal(size=(13, 6))
    cosines = pairwise_cosines(x)
    np.testing.assert_allclose(cosines, 1 - pdist(x, "cosine"), atol=2e-12)
    np.testing.assert_array_equal(cosines, np.round(cosines, 12))


def test_pair_position_reads_the_upper_triangle():
    n = 9
    condensed = np.arange(n * (n - 1) // 2)
    square = squareform(condensed)
    i, j = np.nonzero(~np.eye(n, dtype=bool))
    np.testing.assert_array_equal(condensed[pair_position(i, j, n)], square[i, j])


def test_equal_rows_have_equal_cosines():
    x = np.tile(np.random.default_rng(0).normal(size=50), (40, 1))
    assert set(pairwise_cosines(x)) == {1.0}
    assert set(pairwise_cosines(0 * x)) == {0.0}
