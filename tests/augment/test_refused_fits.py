"""A fit that fails changes nothing."""

import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.augment import AUGMENTATIONS, Expression
from semiclip.encoders import SCVIEncoder

N, GENES = 40, pd.Index([f"gene{i}" for i in range(12)])
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
SCVI = {"max_epochs": 1, "n_latent": 2, "train_kwargs": QUIET}
GAN = {"n_epochs": 2, "device": "cpu", "progress_bar": False}


def make(seed=0, **changes):
    values = np.random.default_rng(seed).poisson(5, (N, 12)).astype(np.float32)
    codes = {"group": np.arange(N) % 4 - 1, "batch": np.arange(N) % 2, "batch_names": ["a", "b"]}
    return Expression(**{"values": values, "genes": GENES, **codes, **changes})


def with_gap():
    """Other expression, of which the last sample is found to be none once the others are read."""
    expression = make(1)
    expression.values[-1, 0] = np.nan
    return expression


def encoder():
    return {"encoder": SCVIEncoder(batch_key="batch", **SCVI).fit(make().adata(np.arange(N), "batch"))}


def shuffled(**changes):
    """Other expression in other groups and batches."""
    rng = np.random.default_rng(5)
    codes = {"group": rng.permutation(np.arange(N) % 4 - 1), "batch": rng.integers(2, size=N)}
    return make(2, **{**codes, **changes})


# how each is made, data that it refuses, and by which error
CASES = [
    ("mwo", dict, lambda: shuffled(group=np.arange(N)), errors.Refused),
    ("scvi", lambda: SCVI, with_gap, ValueError),
    ("scvi", encoder, lambda: shuffled(batch_names=["a", "plate 9"]), ValueError),
    ("scvi", encoder, lambda: shuffled(genes=GENES + "x"), ValueError),
    ("mdwgan_gp", lambda: GAN, with_gap, ValueError),
    ("mdwgan_gp", lambda: GAN, lambda: make(1, group=np.array([0] * 5 + [-1] * (N - 5))), errors.BadValue),
    ("scgft", lambda: {"n_neighbors": 3, "progress_bar": False}, with_gap, ValueError),
]


def test_all_augmentations_are_here():
    assert {name for name, *_ in CASES} == set(AUGMENTATIONS)


@pytest.mark.parametrize(("name", "options", "bad", "error"), CASES)
def test_a_refused_fit_leaves_an_augmentation_as_it_was(name, options, bad, error):
    augmentation, rng = AUGMENTATIONS[name](**options()), np.random.default_rng

    def drawn(augmentation):
        return augmentation.draw(np.array([5, 1, 39, 0, 38]), rng(3))

    with pytest.raises(error):
        augmentation.fit(bad(), rng(0))
    with pytest.raises(errors.NotFitted):
        drawn(augmentation)
    before, attributes = drawn(augmentation.fit(make(), rng(0))), dict(vars(augmentation))
    with pytest.raises(error):
        augmentation.fit(bad(), rng(0))
    np.testing.assert_array_equal(drawn(augmentation), before)
    assert vars(augmentation).keys() == attributes.keys()
    assert all(vars(augmentation)[key] is value for key, value in attributes.items())
    other = drawn(AUGMENTATIONS[name](**options()).fit(shuffled(), rng(0)))
    assert (other != before).any(), "other data would be drawn from otherwise"
