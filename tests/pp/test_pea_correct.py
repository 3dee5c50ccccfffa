import anndata
import numpy as np
import pandas as pd
import pytest

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


def core(adata, function=correct, **keywords):
    codes = adata.obs["plate"].map({"p": 0, "q": 1, "r": 2}).to_numpy().astype(int)
    return function(adata.obsm["X_image"], codes, adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy(), **keywords)


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
    scl.pp.pea_correct(adata, **KEYS, key_added="X_mine")
    scl.pp.pea_correct(adata, **KEYS, method="center")
    assert set(adata.obsm) == {"X_image", "X_mine", "X_image_center"}
    methods = [adata.uns["semiclip"][key]["params"]["method"] for key in ("X_mine", "X_image_center")]
    assert methods == ["tvn", "center"]
    np.testing.assert_array_equal(adata.obsm["X_mine"], core(adata).astype(np.float32))


def test_without_controls_every_row_is_reference(adata):
    keys = DRAWN | {"control": None, "perturbation_key": None}
    scl.pp.pea_correct(adata, **keys, pea={"control_law": "all"})
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


def test_pooled_controls_stand_in(adata):
    few = adata[(adata.obs["plate"] != "q") | ~adata.obs["gene"].isin(["EGFP", "LACZ"])].copy()
    scl.pp.pea_correct(few, **KEYS, fallback="pooled")
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
    scl.pp.pea_correct(adata, **DRAWN, n_views=3, rng=0)
    for key, width, error, data in (
        ("X_none", None, errors.MissingEntry, {"key": "X_none"}),
        ("X_image", None, errors.MissingEntry, {"key": "n_views"}),
        ("X_image", 3, errors.WrongShape, {"shape": (60, 4)}),
        ("X_image", 5, errors.WrongShape, {"shape": (60, 4)}),
        ("X_image_pea", 6, errors.WrongShape, {"shape": (60, 12)}),
    ):
        with refuses(error, **data):
            scl.pp.get_views(adata, key, width=width)
    adata.obsm["X_image_pea"] = adata.obsm["X_image_pea"][:, :-1]
    with refuses(errors.WrongShape, shape=(60, 11)):
        scl.pp.get_views(adata, "X_image_pea")


@pytest.mark.parametrize("rng", [2**62, np.int64(3), None, "generator"])
def test_the_record_draws_the_same_bits_and_without_a_seed_each_call_draws_anew(adata, rng):
    rng = np.random.default_rng(1) if rng == "generator" else rng
    scl.pp.pea_correct(adata, **DRAWN, n_views=2, rng=rng, pea=PEA(drop_probability=0.2))
    first, params = adata.obsm["X_image_pea"].copy(), adata.uns["semiclip"]["X_image_pea"]["params"]
    assert isinstance(params["rng"], int)
    scl.pp.pea_correct(adata, **params)
    np.testing.assert_array_equal(adata.obsm["X_image_pea"], first)
    assert adata.uns["semiclip"]["X_image_pea"]["params"] == params
    if rng is None or isinstance(rng, np.random.Generator):
        again = scl.pp.pea_correct(adata, **params | {"rng": rng}, copy=True)
        assert (again.obsm["X_image_pea"] != first).any()


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
        ({"control": "GENE1"}, *FEW),
        ({"control": "GENE1", "fallback": "pooled"}, *FEW),
        ({"control": "GENE1", "stochastic": True}, *FEW),
        ({"key_added": "X/tvn"}, errors.CannotWrite, {}),
        ({"method": None}, errors.UnknownChoice, {"name": "method"}),
        ({"coral_reg": 0.0}, errors.BadValue, {"name": "coral_reg"}),
        ({"n_views": 2}, errors.IdleArgument, {"names": ["n_views"]}),
        ({"pea": {}, "rng": 0}, errors.IdleArgument, {"names": ["pea", "rng"]}),
        ({"profile": "public", "ridge": 1.0, "stochastic": True}, errors.IdleArgument, {"names": ["profile", "ridge"]}),
        ({"coral_reg": None, "stochastic": True}, errors.IdleArgument, {"names": ["coral_reg"]}),
        ({"pea": False, "stochastic": True}, errors.BadValue, {"name": "pea"}),
        ({"n_views": 0, "stochastic": True}, errors.BadValue, {"name": "n_views"}),
    ],
)
def test_refuses_and_writes_nothing(adata, refuses, change, error, data):
    before = snapshot(adata)
    with refuses(error, **data):
        scl.pp.pea_correct(adata, **KEYS | change)
    assert_unchanged(adata, before)


@pytest.mark.parametrize("options", [{}, {"stochastic": True, "n_views": 2, "rng": 0}])
def test_refuses_what_float32_cannot_hold_and_writes_nothing(adata, refuses, options):
    adata.obsm["X_image"][5] *= 1e300
    before = snapshot(adata)
    with refuses(errors.NotFinite, where="the corrected embedding", rows=["well5"]):
        scl.pp.pea_correct(adata, **KEYS, **options)
    assert_unchanged(adata, before)
