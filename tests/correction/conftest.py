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
