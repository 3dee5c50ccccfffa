import numpy as np
import torch
from scipy.spatial.distance import pdist

from semiclip.metrics._cosine import normalise, pairwise_cosines


def test_normalise_equals_torch_and_keeps_the_kind():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    x[1] = 0
    expected = torch.nn.functional.normalize(torch.tensor(x), dim=1, eps=1e-12)
    assert normalise(x).dtype == np.float32
    np.testing.assert_allclose(normalise(x), expected, rtol=1e-6)
    torch.testing.assert_close(normalise(torch.tensor(x)), expected)


def test_pairwise_equals_scipy_over_blocks():
    x = np.random.default_rng(0).normal(size=(600, 6))  # two blocks and a short one
    cosines = pairwise_cosines(x)
    np.testing.assert_allclose(cosines, 1 - pdist(x, "cosine"), atol=2e-12)
    np.testing.assert_array_equal(cosines, np.round(cosines, 12))
    equal = np.tile(x[0], (40, 1))
    assert set(pairwise_cosines(equal)) == {1.0}
    assert set(pairwise_cosines(0 * equal)) == {0.0}
