import logging
import re

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip.correction import correct

KEYS = {"use_rep": "X_image", "perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}


@pytest.fixture
def adata():
    """Sixty wells on three plates that differ by an offset; a third of the wells are controls."""
    rng = np.random.default_rng(0)
    plate = rng.permutation(np.arange(60) % 3)
    gene = rng.permutation(["EGFP"] * 10 + ["LACZ"] * 10 + [f"GENE{i}" for i in range(40)])
    x = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + 3 * plate[:, None]
    obs = pd.DataFrame({"gene": pd.Categorical(gene), "plate": np.array(["p", "q", "r"])[plate]})
    obs.index = [f"well{i}" for i in range(60)]
    return anndata.AnnData(x.astype(np.float32), obs=obs, obsm={"X_image": x})


def core(adata, x=None, control=None, **keywords):
    codes = adata.obs["plate"].map({"p": 0, "q": 1, "r": 2}).to_numpy().astype(int)
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy() if control is None else control
    x = adata.obsm["X_image"] if x is None else x
    return correct(x, codes, control, **keywords)


def snapshot(adata):
    """Everything that a call could change."""
    obsm = {key: np.array(value) for key, value in adata.obsm.items()}
    return obsm, repr(dict(adata.uns)), adata.obs.copy(), np.array(adata.X)


def assert_unchanged(adata, before):
    obsm, uns, obs, x = before
    assert list(adata.obsm) == list(obsm)
    for key in obsm:
        np.testing.assert_array_equal(adata.obsm[key], obsm[key])
    assert repr(dict(adata.uns)) == uns
    pd.testing.assert_frame_equal(adata.obs, obs)
    np.testing.assert_array_equal(adata.X, x)


@pytest.mark.parametrize("method", ["center", "center_scale", "tvn"])
@pytest.mark.parametrize("profile", ["clean", "batch", "public"])
def test_writes_what_the_core_computes(adata, method, profile):
    expected = core(adata, method=method, profile=profile)
    assert scl.pp.pea_correct(adata, **KEYS, method=method, profile=profile) is None
    out = adata.obsm[f"X_image_{method}"]
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, expected.astype(np.float32))


@pytest.mark.parametrize("options", [{"ridge": 0.5}, {"coral_reg": None}, {"coral_reg": 2.0}])
def test_hands_its_options_on(adata, options):
    expected = core(adata, **options)
    assert np.abs(expected - core(adata)).max() > 1e-3
    scl.pp.pea_correct(adata, **KEYS, **options)
    np.testing.assert_array_equal(adata.obsm["X_image_tvn"], expected.astype(np.float32))


def test_writes_nothing_else(adata):
    before = snapshot(adata)
    scl.pp.pea_correct(adata, **KEYS)
    assert list(adata.uns) == ["semiclip"]
    del adata.obsm["X_image_tvn"], adata.uns["semiclip"]
    assert_unchanged(adata, before)


def test_a_key_of_your_own_and_a_second_run(adata):
    scl.pp.pea_correct(adata, **KEYS, method="center", key_added="X_mine")
    first = adata.obsm["X_mine"]
    scl.pp.pea_correct(adata, **KEYS, key_added="X_mine")
    scl.pp.pea_correct(adata, **KEYS, method="center")
    assert set(adata.obsm) == {"X_image", "X_mine", "X_image_center"}
    assert adata.uns["semiclip"]["X_mine"]["params"]["method"] == "tvn"
    assert adata.uns["semiclip"]["X_image_center"]["params"]["method"] == "center"
    np.testing.assert_array_equal(adata.obsm["X_image_center"], first)


def test_takes_x_dense_or_sparse(adata):
    expected = core(adata, adata.X)
    scl.pp.pea_correct(adata, **KEYS | {"use_rep": "X"})
    np.testing.assert_array_equal(adata.obsm["X_tvn"], expected)
    adata.X = sparse.csr_matrix(adata.X)
    scl.pp.pea_correct(adata, **KEYS | {"use_rep": "X"}, key_added="X_again")
    np.testing.assert_array_equal(adata.obsm["X_again"], expected)


def test_without_a_batch_key_all_rows_are_one_batch(adata):
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    expected = correct(adata.obsm["X_image"], np.zeros(60, dtype=int), control)
    scl.pp.pea_correct(adata, **KEYS | {"batch_key": None})
    np.testing.assert_array_equal(adata.obsm["X_image_tvn"], expected.astype(np.float32))


@pytest.mark.parametrize("perturbation_key", [None, "gene"])
def test_without_controls_every_row_is_reference(adata, perturbation_key):
    expected = core(adata, control=np.ones(60, dtype=bool), method="center_scale")
    keys = KEYS | {"control": None, "perturbation_key": perturbation_key}
    scl.pp.pea_correct(adata, **keys, method="center_scale")
    out = adata.obsm["X_image_center_scale"]
    np.testing.assert_array_equal(out, expected.astype(np.float32))
    for plate in "pqr":
        np.testing.assert_allclose(out[adata.obs["plate"] == plate].mean(axis=0), 0, atol=1e-6)


def test_copy_leaves_the_input_alone(adata):
    before = snapshot(adata)
    out = scl.pp.pea_correct(adata, **KEYS, copy=True)
    assert_unchanged(adata, before)
    scl.pp.pea_correct(adata, **KEYS)
    np.testing.assert_array_equal(out.obsm["X_image_tvn"], adata.obsm["X_image_tvn"])
    assert out.uns["semiclip"]["X_image_tvn"] == adata.uns["semiclip"]["X_image_tvn"]
    assert not np.shares_memory(out.obsm["X_image"], adata.obsm["X_image"])


def test_a_view_can_be_copied_but_not_written_to(adata):
    view = adata[adata.obs["plate"] != "q"]
    before = snapshot(adata)
    with pytest.raises(ValueError, match=r"cannot write into a view.*call \.copy\(\) on the subset first"):
        scl.pp.pea_correct(view, **KEYS)
    assert view.is_view
    out = scl.pp.pea_correct(view, **KEYS, copy=True)
    assert view.is_view
    assert_unchanged(adata, before)
    subset = view.copy()
    scl.pp.pea_correct(subset, **KEYS)
    np.testing.assert_array_equal(out.obsm["X_image_tvn"], subset.obsm["X_image_tvn"])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_and_parameters_survive_a_file(adata, suffix, tmp_path):
    scl.pp.pea_correct(adata, **KEYS, coral_reg=None)
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}")
    np.testing.assert_array_equal(back.obsm["X_image_tvn"], adata.obsm["X_image_tvn"])
    params = dict(back.uns["semiclip"]["X_image_tvn"]["params"])
    assert list(params.pop("control")) == ["EGFP", "LACZ"]
    assert params == {
        "use_rep": "X_image",
        "perturbation_key": "gene",
        "batch_key": "plate",
        "method": "tvn",
        "profile": "clean",
        "ridge": 0.0,
        "fallback": "raise",
    }


def test_pooled_controls_stand_in_and_it_is_logged(adata, caplog):
    few = adata[(adata.obs["plate"] != "q") | ~adata.obs["gene"].isin(["EGFP", "LACZ"])].copy()
    with caplog.at_level(logging.WARNING, logger="semiclip"):
        scl.pp.pea_correct(few, **KEYS, fallback="pooled")
    assert caplog.messages == ["the pooled controls of all batches serve for 1 batch(es): q (0)"]
    np.testing.assert_array_equal(few.obsm["X_image_tvn"], core(few, fallback="pooled").astype(np.float32))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_rep": "X_none"}, KeyError, "use_rep='X_none' is not in obsm, which has X_image; make it with"),
        ({"perturbation_key": "guide"}, KeyError, "perturbation_key='guide' is not a column of obs, which has gene"),
        ({"perturbation_key": None}, ValueError, "control=['EGFP', 'LACZ'] needs perturbation_key="),
        ({"batch_key": "run"}, KeyError, "batch_key='run' is not a column of obs"),
        ({"control": "DMSO"}, ValueError, "control label(s) DMSO match no row of obs['gene']"),
        ({"control": "GENE1"}, ValueError, "3 batch(es) have fewer than two controls: "),
        ({"control": "GENE1", "fallback": "pooled"}, ValueError, "3 batch(es) have fewer than two controls: "),
        ({"fallback": "skip"}, ValueError, "fallback='skip' is not one of raise, pooled"),
        ({"method": "combat"}, ValueError, "no correction method='combat' with profile='clean'"),
        ({"profile": "private"}, ValueError, "no correction method='tvn' with profile='private'"),
        ({"ridge": -1.0}, ValueError, "ridge=-1.0 must not be negative"),
        ({"coral_reg": 0.0}, ValueError, "coral_reg=0.0 must be positive"),
        ({"key_added": "X/tvn"}, ValueError, "key_added='X/tvn' contains '/'"),
        ({"n_views": 2}, TypeError, "n_views would have no effect without stochastic=True; add it to draw"),
        ({"pea": {}, "rng": 0}, TypeError, "pea, rng would have no effect without stochastic=True"),
    ],
)
@pytest.mark.parametrize("copy", [False, True])
def test_refuses_and_writes_nothing(adata, change, error, message, copy):
    before = snapshot(adata)
    with pytest.raises(error, match=re.escape(message)):
        scl.pp.pea_correct(adata, **KEYS | change, copy=copy)
    assert_unchanged(adata, before)


def broken(adata, what):
    match what:
        case "nan":
            adata.obsm["X_image"][[3, 7], 0] = np.nan
        case "inf":
            adata.obsm["X_image"][3] = np.inf
        case "too large":
            adata.obsm["X_image"][5] *= 1e300
        case "one-dimensional":
            adata.obsm["X_image"] = np.ones((60, 0))
        case "gene":
            adata.obs.loc["well5", "gene"] = np.nan
        case "plate":
            adata.obs.loc[["well5", "well6"], "plate"] = None
        case "names":
            adata.obs_names = ["twice", "twice", *adata.obs_names[2:]]
        case "constant":
            adata.obsm["X_image"][:] = 0.1


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "obsm['X_image'] holds NaN or infinite values in 2 row(s): well3, well7; drop or mend"),
        ("inf", "obsm['X_image'] holds NaN or infinite values in 1 row(s): well3;"),
        ("too large", "the corrected embedding holds NaN or infinite values in 1 row(s): well5;"),
        ("one-dimensional", "obsm['X_image'] has shape (60, 0)"),
        ("gene", "obs['gene'] (perturbation_key) has no value in 1 row(s): well5"),
        ("plate", "obs['plate'] (batch_key) has no value in 2 row(s): well5, well6"),
        ("names", "the AnnData repeats observation names: twice; call .obs_names_make_unique() first"),
        ("constant", "the 20 controls do not vary"),
    ],
)
def test_refuses_broken_data_and_writes_nothing(adata, what, message):
    broken(adata, what)
    before = snapshot(adata)
    with pytest.raises(ValueError, match=re.escape(message)):
        scl.pp.pea_correct(adata, **KEYS)
    assert_unchanged(adata, before)


def test_refuses_an_empty_object(adata):
    with pytest.raises(ValueError, match="the AnnData has no observations"):
        scl.pp.pea_correct(adata[:0].copy(), **KEYS)
