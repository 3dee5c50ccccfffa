import numpy as np
import pytest
import torch

from semiclip.correction import PEA, Augmentation


@pytest.fixture(scope="session")
def plates():
    """Make correlated rows of unequal scales, in mixed order, of batches that differ by an offset."""

    def make(n_controls=(30, 40, 25), n_treated=60, d=5, seed=0, offset=3.0):
        rng = np.random.default_rng(seed)
        n_batches = len(n_controls)
        batch = np.concatenate([np.repeat(np.arange(n_batches), n_controls), np.arange(n_treated) % n_batches])
        x = rng.normal(size=(len(batch), d)) @ (np.eye(d) + 0.5 * rng.normal(size=(d, d)))
        x = (x + offset * rng.normal(size=(n_batches, d))[batch]) * rng.uniform(0.2, 5, d)
        order = rng.permutation(len(batch))
        return x[order].astype(np.float32), batch[order], (np.arange(len(batch)) < sum(n_controls))[order]

    return make


@pytest.fixture(scope="session")
def augmentation():
    """Make an augmentation by the options of PEA, ready to draw."""

    def make(data, *, seed=0, epoch=0, **options):
        made = Augmentation(PEA(**options), *data, seed=seed)
        made.start_epoch(epoch)
        return made

    return make


@pytest.fixture(scope="session")
def augmented(augmentation):
    """Draw for every row; return the draws and the rows."""

    def draw(data, *, seed=0, epoch=0, **options):
        x, batch, _ = data
        made = augmentation(data, seed=seed, epoch=epoch, **options)
        codes = torch.as_tensor(batch)
        drawn = made.draw(torch.arange(len(x)), codes, epoch)
        return drawn, made.apply(torch.as_tensor(x), codes, drawn).numpy()

    return draw


@pytest.fixture(scope="session")
def study():
    """Make rows in mixed order, a third of them controls, in batches that differ by an offset and by a scale."""

    def make(seed=0, n=240, d=5, n_batches=3, offset=4.0):
        rng = np.random.default_rng(seed)
        batch = rng.permutation(np.arange(n) % n_batches)
        control = rng.permutation(np.arange(n) // n_batches % 3 == 0)[:n]
        mixing = rng.normal(size=(d, d))
        x = rng.normal(size=(n, d)) @ mixing * rng.uniform(0.5, 2, (n_batches, 1))[batch]
        return x + offset * rng.normal(size=(n_batches, d))[batch], batch, control

    return make


@pytest.fixture(scope="session")
def few_controls():
    """Make rows of one batch with an offset, of which the first are controls."""

    def make(n_controls, d=20, n=120):
        return np.random.default_rng(0).normal(size=(n, d)) + 3, np.zeros(n, dtype=int), np.arange(n) < n_controls

    return make


@pytest.fixture(scope="session")
def unsigned():
    """Turn the columns of ``x`` the way those of ``like`` point; whitened components come in any order."""

    def turn(x, like):
        order = np.abs(np.corrcoef(x, like, rowvar=False)[: x.shape[1], x.shape[1] :]).argmax(axis=0)
        return x[:, order] * np.sign((x[:, order] * like).sum(axis=0))

    return turn
