import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip import errors
from semiclip.correction import PEA, augment, correct

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
    return anndata.AnnData(x.astype(np.float32), obs=obs, obsm={"X_image": x})


def core(adata, function=correct, x=None, control=None, **keywords):
    codes = adata.obs["plate"].map({"p": 0, "q": 1, "r": 2}).to_numpy().astype(int)
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy() if control is None else control
    return function(adata.obsm["X_image"] if x is None else x, codes, control, **keywords)


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


# ---- the deterministic correction


@pytest.mark.parametrize(
    "options",
    [
        *({"method": m, "profile": p} for m in ("center", "center_scale", "tvn") for p in ("clean", "batch", "public")),
        {"ridge": 0.5},
        {"profile": "batch", "ridge": 0},
        {"coral_reg": None},
        {"coral_reg": 2.0},
    ],
)
def test_writes_what_the_core_computes_and_nothing_else(adata, options):
    expected, before = core(adata, **options), snapshot(adata)
    assert scl.pp.pea_correct(adata, **KEYS, **options) is None
    key = f"X_image_{options.get('method', 'tvn')}"
    assert adata.obsm[key].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm[key], expected.astype(np.float32))
    assert list(adata.uns) == ["semiclip"]
    del adata.obsm[key], adata.uns["semiclip"]
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
    expected = core(adata, x=adata.X)
    scl.pp.pea_correct(adata, **KEYS | {"use_rep": "X"})
    np.testing.assert_array_equal(adata.obsm["X_tvn"], expected)
    adata.X = sparse.csr_matrix(adata.X)
    scl.pp.pea_correct(adata, **KEYS | {"use_rep": "X"}, key_added="X_again")
    np.testing.assert_array_equal(adata.obsm["X_again"], expected)


@pytest.mark.parametrize("perturbation_key", [None, "gene"])
def test_without_controls_every_row_is_reference_and_without_batches_all_are_one(adata, perturbation_key):
    keys = KEYS | {"control": None, "perturbation_key": perturbation_key}
    scl.pp.pea_correct(adata, **keys, method="center_scale")
    expected = core(adata, control=np.ones(60, dtype=bool), method="center_scale")
    np.testing.assert_array_equal(adata.obsm["X_image_center_scale"], expected.astype(np.float32))
    scl.pp.pea_correct(adata, **keys | {"batch_key": None}, method="center")
    np.testing.assert_allclose(adata.obsm["X_image_center"], adata.X - adata.X.mean(axis=0), rtol=1e-4, atol=1e-5)
    scl.pp.pea_correct(adata, **keys, stochastic=True, pea={"control_law": "all"})
    assert set(adata.obsm["X_image_pea_controls"].ravel()) == {0, 20}


@pytest.mark.parametrize(("options", "key"), [({}, "X_image_tvn"), ({"stochastic": True, "rng": 0}, "X_image_pea")])
def test_copies_leave_the_input_alone(adata, refuses, options, key):
    before = snapshot(adata)
    out = scl.pp.pea_correct(adata, **KEYS, **options, copy=True)
    subset = adata[adata.obs["plate"] != "q"]
    with refuses(errors.CannotWrite):
        scl.pp.pea_correct(subset, **KEYS, **options)
    part = scl.pp.pea_correct(subset, **KEYS, **options, copy=True)
    assert subset.is_view
    assert part.obsm[key].shape == (40, 4)
    assert_unchanged(adata, before)
    scl.pp.pea_correct(adata, **KEYS, **options)
    np.testing.assert_array_equal(out.obsm[key], adata.obsm[key])
    assert out.uns["semiclip"][key] == adata.uns["semiclip"][key]
    assert not np.shares_memory(out.obsm["X_image"], adata.obsm["X_image"])


def test_pooled_controls_stand_in_and_it_is_logged(adata, caplog):
    few = adata[(adata.obs["plate"] != "q") | ~adata.obs["gene"].isin(["EGFP", "LACZ"])].copy()
    with caplog.at_level(logging.WARNING, logger="semiclip"):
        scl.pp.pea_correct(few, **KEYS, fallback="pooled")
    assert "q (0)" in caplog.text
    np.testing.assert_array_equal(few.obsm["X_image_tvn"], core(few, fallback="pooled").astype(np.float32))


# ---- views


@pytest.mark.parametrize("n_views", [1, 3])
def test_views_lie_side_by_side_with_what_they_kept(adata, n_views):
    options = {"n_views": n_views, "pea": {"drop_probability": 0.25}, "rng": 5}
    values, steps, n_controls = (np.swapaxes(part, 0, 1) for part in core(adata, augment, **options))
    obs = adata.obs.copy()
    scl.pp.pea_correct(adata, **DRAWN, **options)
    assert list(adata.obsm) == ["X_image", "X_image_pea", "X_image_pea_steps", "X_image_pea_controls"]
    assert adata.obsm["X_image_pea"].dtype == np.float32
    assert adata.obsm["X_image_pea_steps"].dtype == np.uint8
    views = scl.pp.get_views(adata, "X_image_pea")
    assert np.shares_memory(views, adata.obsm["X_image_pea"])
    np.testing.assert_array_equal(views, values)
    np.testing.assert_array_equal(adata.obsm["X_image_pea"][:, -4:], values[:, -1])
    np.testing.assert_array_equal(adata.obsm["X_image_pea_steps"][..., None] & [1, 2, 4] != 0, steps)
    np.testing.assert_array_equal(adata.obsm["X_image_pea_controls"], n_controls)
    pd.testing.assert_frame_equal(adata.obs, obs)


def test_views_survive_joining_data(adata):
    scl.pp.pea_correct(adata, **DRAWN, n_views=3, rng=0)
    whole = scl.pp.get_views(adata, "X_image_pea")
    joined = anndata.concat([adata[:20].copy(), adata[20:].copy()], join="outer")
    np.testing.assert_array_equal(scl.pp.get_views(joined, "X_image_pea", width=4), whole)
    np.testing.assert_array_equal(joined.obsm["X_image_pea_steps"], adata.obsm["X_image_pea_steps"])


def test_what_is_no_views_cannot_be_taken_apart(adata, refuses):
    with refuses(errors.MissingEntry, key="X_none", there=["X_image"]):
        scl.pp.get_views(adata, "X_none")
    with refuses(errors.MissingEntry, key="n_views"):
        scl.pp.get_views(adata, "X_image")
    with refuses(errors.WrongShape, shape=(60, 4)):
        scl.pp.get_views(adata, "X_image", width=3)
    with refuses(errors.WrongShape, shape=(60, 4)):
        scl.pp.get_views(adata, "X_image", width=5)
    scl.pp.pea_correct(adata, **DRAWN, n_views=3, rng=0)
    with refuses(errors.WrongShape, shape=(60, 12)):
        scl.pp.get_views(adata, "X_image_pea", width=6)
    adata.obsm["X_image_pea"] = adata.obsm["X_image_pea"][:, :-1]
    with refuses(errors.WrongShape, shape=(60, 11)):
        scl.pp.get_views(adata, "X_image_pea")


@pytest.mark.parametrize("rng", [0, 2**62, np.int64(3), None, "generator"])
def test_the_record_draws_the_same_bits(adata, rng):
    rng = np.random.default_rng(1) if rng == "generator" else rng
    scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=rng, pea=PEA(drop_probability=0.2))
    first, params = adata.obsm["X_image_pea"].copy(), adata.uns["semiclip"]["X_image_pea"]["params"]
    assert isinstance(params["rng"], int)
    scl.pp.pea_correct(adata, **params)
    np.testing.assert_array_equal(adata.obsm["X_image_pea"], first)
    assert adata.uns["semiclip"]["X_image_pea"]["params"] == params


def test_without_a_seed_each_call_draws_anew(adata):
    for rng in (None, np.random.default_rng(0)):
        one, two = (scl.pp.pea_correct(adata, **DRAWN, rng=rng, copy=True).obsm["X_image_pea"] for _ in range(2))
        assert (one != two).any()


def test_a_later_call_replaces_the_views(adata):
    scl.pp.pea_correct(adata, **DRAWN, n_views=4)
    scl.pp.pea_correct(adata, **DRAWN, n_views=2)
    assert adata.obsm["X_image_pea"].shape == (60, 8)
    assert adata.obsm["X_image_pea_steps"].shape == adata.obsm["X_image_pea_controls"].shape == (60, 2)
    scl.pp.pea_correct(adata, **KEYS, key_added="X_image_pea")
    assert list(adata.obsm) == ["X_image", "X_image_pea"]
    assert "stochastic" not in adata.uns["semiclip"]["X_image_pea"]["params"]


# ---- both


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_and_parameters_survive_a_file(adata, suffix, tmp_path):
    scl.pp.pea_correct(adata, **KEYS, coral_reg=None, ridge=0.0)
    scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=3, pea={"clip": None, "max_controls": None})
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}")
    for key in adata.obsm:
        np.testing.assert_array_equal(back.obsm[key], adata.obsm[key])
    columns = {"use_rep": "X_image", "perturbation_key": "gene", "batch_key": "plate"}
    params = dict(back.uns["semiclip"]["X_image_tvn"]["params"])
    assert list(params.pop("control")) == ["EGFP", "LACZ"]
    assert params == {**columns, "method": "tvn", "profile": "clean", "ridge": 0.0, "fallback": "raise"}
    params = back.uns["semiclip"]["X_image_pea"]["params"]
    assert {*params} == {*KEYS, "stochastic", "n_views", "rng", "pea", "fallback"}
    assert (bool(params["stochastic"]), int(params["n_views"]), int(params["rng"])) == (True, 2, 3)
    assert PEA.of({**params["pea"]}) == PEA(clip=None, max_controls=None)
    scl.pp.pea_correct(back, **params)  # draws the same again
    np.testing.assert_array_equal(back.obsm["X_image_pea"], adata.obsm["X_image_pea"])


FEW = (errors.TooFewControls, {"needed": 2})


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"use_rep": "X_none"}, errors.MissingEntry, {"key": "X_none"}),
        ({"perturbation_key": "guide"}, errors.MissingColumn, {"key": "guide", "name": "perturbation_key"}),
        ({"perturbation_key": None}, errors.UnknownControl, {"labels": ("EGFP", "LACZ")}),
        ({"batch_key": "run"}, errors.MissingColumn, {"key": "run"}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"control": "GENE1"}, *FEW),
        ({"control": "GENE1", "fallback": "pooled"}, *FEW),
        ({"control": "GENE1", "stochastic": True}, *FEW),
        ({"fallback": "skip"}, errors.UnknownChoice, {"name": "fallback"}),
        ({"method": "combat"}, errors.UnknownChoice, {"name": "method"}),
        ({"method": None}, errors.UnknownChoice, {"name": "method"}),
        ({"profile": "private"}, errors.UnknownChoice, {"name": "profile"}),
        ({"ridge": -1.0}, errors.BadValue, {"name": "ridge"}),
        ({"coral_reg": 0.0}, errors.BadValue, {"name": "coral_reg"}),
        ({"key_added": "X/tvn"}, errors.CannotWrite, {}),
        ({"n_views": 2}, errors.IdleArgument, {"names": ["n_views"]}),
        ({"pea": {}, "rng": 0}, errors.IdleArgument, {"names": ["pea", "rng"]}),
        ({"profile": "public", "ridge": 1.0, "stochastic": True}, errors.IdleArgument, {"names": ["profile", "ridge"]}),
        ({"coral_reg": None, "stochastic": True}, errors.IdleArgument, {"names": ["coral_reg"]}),
        ({"pea": False, "stochastic": True}, errors.BadValue, {"name": "pea"}),
        ({"pea": {"method": "tvn"}, "stochastic": True}, errors.UnknownChoice, {"value": "method"}),
        ({"n_views": 0, "stochastic": True}, errors.BadValue, {"name": "n_views"}),
        ({"fallback": "skip", "stochastic": True}, errors.UnknownChoice, {"name": "fallback"}),
    ],
)
@pytest.mark.parametrize("copy", [False, True])
def test_refuses_and_writes_nothing(adata, refuses, change, error, data, copy):
    before = snapshot(adata)
    with refuses(error, **data):
        scl.pp.pea_correct(adata, **KEYS | change, copy=copy)
    assert_unchanged(adata, before)


def spoil(adata, what):
    match what:
        case "nan":
            adata.obsm["X_image"][[3, 7], 0] = np.nan
        case "too large":
            adata.obsm["X_image"][5] *= 1e300
        case "no columns":
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
    ("what", "error", "data"),
    [
        ("nan", errors.NotFinite, {"where": "obsm['X_image']", "rows": ["well3", "well7"]}),
        ("too large", errors.NotFinite, {"where": "the corrected embedding", "rows": ["well5"]}),
        ("no columns", errors.WrongShape, {"shape": (60, 0)}),
        ("gene", errors.MissingValues, {"rows": ["well5"]}),
        ("plate", errors.MissingValues, {"rows": ["well5", "well6"]}),
        ("names", errors.Repeated, {"items": ["twice"]}),
        ("constant", errors.NoVariation, {}),
    ],
)
@pytest.mark.parametrize("options", [{}, {"stochastic": True, "n_views": 2, "rng": 0}])
def test_refuses_broken_data_and_writes_nothing(adata, refuses, what, error, data, options):
    spoil(adata, what)
    before = snapshot(adata)
    with refuses(error, **data):
        scl.pp.pea_correct(adata, **KEYS, **options)
    assert_unchanged(adata, before)
    with refuses(errors.Empty):
        scl.pp.pea_correct(adata[:0].copy(), **KEYS)
