import numpy as np
import pytest
import torch
from scipy import sparse

from semiclip.tl._decoder import fit_decoder, learning_rate, make_decoder, predict

QUIET = {"progress_bar": False, "device": "cpu"}


@pytest.fixture
def problem():
    """Expression that is a linear function of the embedding."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype(np.float32)
    return x, (x @ rng.normal(size=(4, 12))).astype(np.float32)


@pytest.mark.parametrize("widths", [[256, 436, 617, 797, 978], [768, 601, 434, 267, 100], [1, 1, 1, 1, 1]])
def test_widths(widths):
    decoder = make_decoder(widths[0], widths[-1])
    assert [widths[0], *(layer.out_features for layer in decoder[::2])] == widths
    assert [type(layer).__name__ for layer in decoder] == ["Linear", "ReLU"] * 3 + ["Linear"]


def test_the_learning_rate_rises_for_ten_epochs_and_falls_as_a_cosine(problem, monkeypatch):
    rates = [learning_rate(step, 7, 30) for step in range(210)]
    assert [rates[i] for i in (0, 35, 70, 140)] == pytest.approx([0.3, 0.65, 1, 0.5])
    assert np.diff(rates[:71]) == pytest.approx(0.7 / 70)
    assert (np.diff(rates[70:]) < 0).all()
    assert (learning_rate(210, 7, 30), learning_rate(70, 7, 250), learning_rate(0, 1, 1)) == (0, 1, 0.3)
    assert [learning_rate(step, 1, 3) for step in range(3)] == pytest.approx([0.3, 1, 0.5])
    used, step = [], torch.optim.AdamW.step

    def watched(self):
        used.append(self.param_groups[0]["lr"])
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit_decoder(*problem, max_epochs=30, batch_size=100, rng=0, **QUIET)  # three steps an epoch
    assert used == pytest.approx([1e-4 * learning_rate(step, 3, 30) for step in range(90)])


def test_overfits_a_linear_map_and_predicts_in_blocks_what_is_like_an_array(problem):
    x, y = problem
    start, end = (fit_decoder(x, y, max_epochs=n, batch_size=32, lr=5e-3, rng=0, **QUIET) for n in (1, 200))
    predicted = predict(end, x)
    assert predicted.dtype == np.float32
    assert np.mean((predict(start, x) - y) ** 2) > 0.5 * y.var() > 50 * np.mean((predicted - y) ** 2)
    fixed = np.asfortranarray(x.astype(np.float64))
    fixed.flags.writeable = False
    for rows, options in ((x, {"block": 7}), (fixed, {})):
        np.testing.assert_allclose(predict(end, rows, **options), predicted, atol=1e-5)
    assert predict(end, x[:0]).shape == (0, 12)


def test_the_first_step_is_that_of_adamw(problem):
    x, y = problem
    decoder = fit_decoder(x, y, max_epochs=1, batch_size=300, rng=3, **QUIET)
    with torch.random.fork_rng():
        seed = int(np.random.default_rng(3).integers(2**63))  # drawn twice: once for the training, once for torch
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**63)))
        reference = make_decoder(4, 12)
    optimizer = torch.optim.AdamW(reference.parameters(), 3e-5, weight_decay=1e-6)
    ((reference(torch.tensor(x)) - torch.tensor(y)) ** 2).mean().backward()
    optimizer.step()
    for a, b in zip(decoder.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_targets_give_the_same_decoder(problem, form):
    x, y = problem
    y = np.where(y > 1, y, 0)
    assert not y.any(axis=1).all()  # rows without an entry too
    dense, compressed = (fit_decoder(x, t, max_epochs=2, batch_size=50, rng=0, **QUIET) for t in (y, form(y)))
    assert all(map(torch.equal, dense.parameters(), compressed.parameters()))
