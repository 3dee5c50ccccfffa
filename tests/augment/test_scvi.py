import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.augment import Expression, SCVIAugmentation

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
OPTIONS = {"n_latent": 4, "batch_key": "batch", "max_epochs": 2, "train_kwargs": QUIET}
ROWS = np.array([5, 0, 9, 30])


@pytest.fixture(scope="module")
def rna(small_study):
    return small_study.mdata["rna"][:120].copy()


@pytest.fixture(scope="module")
def encoder(rna):
    return scl.encoders.SCVIEncoder(**OPTIONS, rng=0).fit(rna)


def expression(rna, **changes):
    names, batch = np.unique(rna.obs["batch"].astype(str), return_inverse=True)
    group = np.where(np.arange(rna.n_obs) == 9, -1, 0)
    data = {"values": np.asarray(rna.X), "group": group, "batch": batch, "genes": rna.var_names, "batch_names": names}
    return Expression(**{**data, **changes})


def drawn(augmentation, expression, rows=ROWS, seed=3):
    augmentation.fit(expression, np.random.default_rng(0))
    return augmentation.draw(rows, np.random.default_rng(seed))


@pytest.mark.parametrize("mode", ["mean", "ppc"])
def test_draws_the_log_of_what_the_decoder_gives_back_and_leaves_the_rest(rna, encoder, mode):
    data = expression(rna)
    out = drawn(SCVIAugmentation(encoder=encoder, mode=mode), data)
    treated = ROWS != 9
    expected = encoder.denoise(rna[ROWS[treated]], mode=mode, rng=np.random.default_rng(3))
    np.testing.assert_allclose(out[treated], np.log1p(expected), rtol=1e-5)
    np.testing.assert_array_equal(out[~treated], data.read(ROWS[~treated]))
    np.testing.assert_allclose(np.expm1(out[treated]).sum(axis=1), 1e4, rtol=1e-4)


def test_genes_may_stand_in_another_order(rna, encoder):
    order = np.random.default_rng(0).permutation(rna.n_vars)
    augmentation = SCVIAugmentation(encoder=encoder)
    plain, shuffled = (drawn(augmentation, expression(adata)) for adata in (rna, rna[:, order]))
    np.testing.assert_allclose(shuffled, plain[:, order], rtol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "ppc"])
def test_genes_that_the_encoder_knows_keep_their_share_of_each_row(rna, mode):
    seen = np.random.default_rng(0).permutation(rna.n_vars)[: rna.n_vars // 4]
    some = scl.encoders.SCVIEncoder(**OPTIONS).fit(rna[:, seen].copy())
    data, rows = expression(rna), np.delete(np.arange(60), 9)
    counts = np.asarray(rna.X)[rows]
    out = drawn(SCVIAugmentation(encoder=some, mode=mode), data, rows)
    np.testing.assert_allclose(np.expm1(out).sum(axis=1), 1e4, rtol=1e-4)
    restored = data.restore(rows, out)
    np.testing.assert_allclose(restored[:, seen].sum(axis=1), counts[:, seen].sum(axis=1), rtol=1e-4)
    others = np.setdiff1d(np.arange(rna.n_vars), seen)
    np.testing.assert_allclose(restored[:, others], counts[:, others], rtol=1e-4, atol=1e-4)
    decoded = some.denoise(rna[rows], mode=mode, rng=np.random.default_rng(3))
    share = decoded / decoded.sum(axis=1, keepdims=True)
    expected = share * counts[:, seen].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(restored[:, seen], expected, rtol=1e-3, atol=1e-3)


def test_a_row_without_counts_of_the_genes_that_the_encoder_knows_gets_none(rna, encoder):
    values = np.pad(np.asarray(rna.X), ((0, 0), (0, 1)), constant_values=5)
    values[0, :-1] = 0
    data = expression(rna, values=values, genes=rna.var_names.append(pd.Index(["new"])))
    out = drawn(SCVIAugmentation(encoder=encoder), data)
    np.testing.assert_array_equal(data.restore(ROWS, out)[1], values[0])


def test_an_encoder_finds_counts_in_the_layer_that_it_reads(rna, encoder):
    moved = rna.copy()
    moved.layers["counts"], moved.X = moved.X, None
    layered = scl.encoders.SCVIEncoder(**OPTIONS, layer="counts", rng=0).fit(moved)
    out = drawn(SCVIAugmentation(encoder=layered), expression(rna))
    np.testing.assert_array_equal(out, drawn(SCVIAugmentation(encoder=encoder), expression(rna)))


def test_the_batch_of_each_sample_is_told(rna, encoder):
    data = expression(rna)
    turned = expression(rna, batch=(data.batch + 1) % len(data.batch_names))
    out, other = (drawn(SCVIAugmentation(encoder=encoder), told) for told in (data, turned))
    assert (out[0] != other[0]).any()
    np.testing.assert_array_equal(out[2], other[2])  # group -1


def test_without_an_encoder_one_is_fitted_and_the_seed_decides(rna):
    options = {"n_latent": 4, "max_epochs": 1, "train_kwargs": QUIET}
    first, again = (drawn(SCVIAugmentation(**options), expression(rna)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = drawn(SCVIAugmentation(**options), expression(rna), seed=4)
    assert (first[0] != other[0]).mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"normalize": False}, errors.NotCounts),
        ({"batch": np.zeros(120, int), "batch_names": ["all rows"]}, errors.BadValue),
        ({"batch_names": ["plate 9"] * 3}, ValueError),
    ],
)
def test_refuses_expression(rna, encoder, changes, error):
    with pytest.raises(error):
        drawn(SCVIAugmentation(encoder=encoder), expression(rna, **changes))


def test_refuses_options(encoder, refuses):
    with refuses(errors.UnknownChoice, name="mode", value="both"):
        SCVIAugmentation(mode="both")
    with refuses(errors.IdleArgument, names=["max_epochs"]):
        SCVIAugmentation(encoder=encoder, max_epochs=3)
