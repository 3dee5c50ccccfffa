import re

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.correction import PEA, augment

KEYS = {"use_rep": "X_image", "perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
DRAWN = {**KEYS, "stochastic": True}


@pytest.fixture
def adata():
    """Sixty wells on three plates that differ by an offset; a third of the wells are controls."""
    rng = np.random.default_rng(0)
    plate = rng.permutation(np.arange(60) % 3)
    gene = rng.permutation(["EGFP"] * 10 + ["LACZ"] * 10 + [f"GENE{i}" for i in range(40)])
    x = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + 3 * plate[:, None]
    obs = pd.DataFrame({"gene": pd.Categorical(gene), "plate": np.array(["p", "q", "r"])[plate]})
    obs.index = [f"well{i}" for i in range(60)]
    return anndata.AnnData(obs=obs, obsm={"X_image": x})


def core(adata, **keywords):
    codes = adata.obs["plate"].map({"p": 0, "q": 1, "r": 2}).to_numpy().astype(int)
    return augment(adata.obsm["X_image"], codes, adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy(), **keywords)


def words(steps):
    names = ("center", "scale", "whiten")
    return ["+".join(name for name, kept in zip(names, row, strict=True) if kept) or "none" for row in steps]


def views_of(adata):
    return {name: np.array(values) for name, values in adata.obsm.items() if name != "X_image"}


def test_one_view_and_what_it_kept(adata):
    expected = core(adata, rng=5)
    assert scl.pp.pea_correct(adata, **DRAWN, rng=5) is None
    assert list(adata.obsm) == ["X_image", "X_image_pea"]
    assert adata.obsm["X_image_pea"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_image_pea"], expected.values[0])
    assert list(adata.obs.columns) == ["gene", "plate", "X_image_pea_steps", "X_image_pea_controls"]
    steps, n_controls = adata.obs["X_image_pea_steps"], adata.obs["X_image_pea_controls"]
    assert list(steps) == words(expected.steps[0])
    assert list(steps.cat.categories) == [
        *("none", "center", "scale", "center+scale"),
        *("whiten", "center+whiten", "scale+whiten", "center+scale+whiten"),
    ]
    assert n_controls.dtype == int
    np.testing.assert_array_equal(n_controls, expected.n_controls[0])


def test_several_views_are_numbered_from_one(adata):
    pea = {"methods": ["center_scale"], "drop_probability": 0.25}
    expected = core(adata, rng=5, n_views=3, pea=pea)
    scl.pp.pea_correct(adata, **DRAWN, rng=5, n_views=3, pea=pea, key_added="X_seen")
    assert list(adata.obsm) == ["X_image", "X_seen_1", "X_seen_2", "X_seen_3"]
    for i, (values, steps, n_controls) in enumerate(zip(*expected, strict=True), start=1):
        np.testing.assert_array_equal(adata.obsm[f"X_seen_{i}"], values)
        assert list(adata.obs[f"X_seen_{i}_steps"]) == words(steps)
        assert list(adata.obs[f"X_seen_{i}_steps"].cat.categories) == ["none", "center", "scale", "center+scale"]
        np.testing.assert_array_equal(adata.obs[f"X_seen_{i}_controls"], n_controls)


def test_a_hundred_views_are_written_at_once(adata):
    scl.pp.pea_correct(adata, **DRAWN, n_views=100, pea={"methods": ["center"]}, rng=0)  # pandas would warn
    assert len(adata.obsm) == 101
    assert adata.obs.shape == (60, 202)


def test_writes_nothing_else(adata):
    before = adata.copy()
    scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=0)
    assert list(adata.uns) == ["semiclip"]
    assert list(adata.uns["semiclip"]) == ["X_image_pea"]
    pd.testing.assert_frame_equal(adata.obs[["gene", "plate"]], before.obs)
    np.testing.assert_array_equal(adata.obsm["X_image"], before.obsm["X_image"])


@pytest.mark.parametrize("rng", [0, 2**62, np.int64(3), None, "generator"])
def test_the_record_draws_the_same_bits(adata, rng):
    rng = np.random.default_rng(1) if rng == "generator" else rng
    scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=rng, pea=PEA(drop_probability=0.2))
    first = views_of(adata)
    params = adata.uns["semiclip"]["X_image_pea"]["params"]
    assert isinstance(params["rng"], int)
    scl.pp.pea_correct(adata, **params)
    again = views_of(adata)
    assert list(again) == list(first) == ["X_image_pea_1", "X_image_pea_2"]
    for name in first:
        np.testing.assert_array_equal(again[name], first[name])
    assert adata.uns["semiclip"]["X_image_pea"]["params"] == params


def test_without_a_seed_each_call_draws_anew(adata):
    first, second = (scl.pp.pea_correct(adata, **DRAWN, copy=True).obsm["X_image_pea"] for _ in range(2))
    assert (first != second).any()
    rng = np.random.default_rng(0)
    first, second = (scl.pp.pea_correct(adata, **DRAWN, rng=rng, copy=True).obsm["X_image_pea"] for _ in range(2))
    assert (first != second).any()


def test_views_of_an_earlier_call_go(adata):
    scl.pp.pea_correct(adata, **DRAWN, rng=0)
    scl.pp.pea_correct(adata, **DRAWN, rng=0, n_views=4)
    assert list(views_of(adata)) == [f"X_image_pea_{i}" for i in (1, 2, 3, 4)]
    assert list(adata.obs.columns[2:4]) == ["X_image_pea_1_steps", "X_image_pea_1_controls"]
    scl.pp.pea_correct(adata, **DRAWN, rng=0, n_views=2, key_added="X_other")
    scl.pp.pea_correct(adata, **DRAWN, rng=0, n_views=2)
    assert sorted(views_of(adata)) == ["X_image_pea_1", "X_image_pea_2", "X_other_1", "X_other_2"]
    scl.pp.pea_correct(adata, **DRAWN, rng=0)
    assert list(views_of(adata)) == ["X_other_1", "X_other_2", "X_image_pea"]
    assert adata.obs.shape == (60, 8)
    scl.pp.pea_correct(adata, **KEYS, key_added="X_image_pea")
    assert list(adata.obs.columns) == [
        "gene",
        "plate",
        *(f"X_other_{i}_{x}" for i in (1, 2) for x in ("steps", "controls")),
    ]
    assert "stochastic" not in adata.uns["semiclip"]["X_image_pea"]["params"]


def test_copy_leaves_the_input_alone_and_a_view_can_be_copied(adata):
    subset = adata[adata.obs["plate"] != "q"]
    with pytest.raises(ValueError, match="cannot write into a view"):
        scl.pp.pea_correct(subset, **DRAWN)
    out = scl.pp.pea_correct(subset, **DRAWN, rng=0, copy=True)
    assert subset.is_view
    assert (list(adata.obsm), list(adata.obs), list(adata.uns)) == (["X_image"], ["gene", "plate"], [])
    assert list(out.obsm) == ["X_image", "X_image_pea"]
    assert out.obs.shape == (40, 4)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_views_and_parameters_survive_a_file(adata, suffix, tmp_path):
    scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=3, pea={"clip": None, "max_controls": None})
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}")
    for name, values in views_of(adata).items():
        np.testing.assert_array_equal(back.obsm[name], values)
        steps = f"{name}_steps"
        pd.testing.assert_series_equal(back.obs[steps].astype(str), adata.obs[steps].astype(str))
        assert list(back.obs[steps].cat.categories) == list(adata.obs[steps].cat.categories)
        np.testing.assert_array_equal(back.obs[f"{name}_controls"], adata.obs[f"{name}_controls"])
    params = back.uns["semiclip"]["X_image_pea"]["params"]
    assert (bool(params["stochastic"]), int(params["n_views"]), int(params["rng"])) == (True, 2, 3)
    assert set(params) == {*KEYS, "stochastic", "n_views", "rng", "pea", "fallback"}
    assert list(params["pea"]["methods"]) == ["center", "center_scale", "tvn"]
    chosen = {name: params["pea"][name] for name in ("clip", "max_controls", "drop_probability")}
    assert chosen == {"clip": np.inf, "max_controls": np.inf, "drop_probability": 0.5}
    scl.pp.pea_correct(back, **params)  # draws the same again
    for name, values in views_of(adata).items():
        np.testing.assert_array_equal(back.obsm[name], values)
    scl.pp.pea_correct(back, **DRAWN, rng=3)  # the views that were read go
    assert list(views_of(back)) == ["X_image_pea"]


def test_without_controls_every_row_is_reference(adata):
    scl.pp.pea_correct(adata, **DRAWN | {"control": None}, pea={"control_law": "all"}, rng=0)
    n_controls = adata.obs["X_image_pea_controls"]
    assert set(n_controls) == {0, 20}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "center"}, TypeError, "method would have no effect with stochastic=True; say what to draw from as"),
        ({"profile": "public", "ridge": 1.0}, TypeError, "profile, ridge would have no effect with stochastic=True"),
        ({"coral_reg": None}, TypeError, "coral_reg would have no effect with stochastic=True"),
        ({"pea": False}, ValueError, "pea=False leaves nothing to draw"),
        ({"pea": {"method": "tvn"}}, ValueError, "pea has no option method; there are methods, drop_probability"),
        ({"pea": {"methods": ["combat"]}}, ValueError, "unknown: combat"),
        ({"n_views": 0}, ValueError, "n_views=0 must be at least 1"),
        ({"control": "GENE1"}, ValueError, "3 batch(es) have fewer than two controls: p (0), q ("),
        ({"fallback": "skip"}, ValueError, "fallback='skip' is not one of raise, pooled"),
        ({"key_added": "X/pea"}, ValueError, "key_added='X/pea' contains '/'"),
    ],
)
@pytest.mark.parametrize("copy", [False, True])
def test_refuses_and_writes_nothing(adata, change, error, message, copy):
    before = adata.copy()
    with pytest.raises(error, match=re.escape(message)):
        scl.pp.pea_correct(adata, **DRAWN | change, copy=copy)
    assert (list(adata.obsm), dict(adata.uns)) == (["X_image"], {})
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_refuses_what_float32_cannot_hold(adata):
    adata.obsm["X_image"][5] *= 1e300
    message = "the corrected embedding holds NaN or infinite values in 1 row(s): well5; drop or mend"
    with pytest.raises(ValueError, match=re.escape(message)):
        scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=0)
    assert list(adata.obsm) == ["X_image"]
