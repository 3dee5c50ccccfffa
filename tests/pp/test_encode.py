import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.encoders import ENCODERS, Encoder, PCAEncoder, SCVIEncoder


class Sums:
    """An encoder of somebody else."""

    def __init__(self, change=lambda embedding: embedding):
        self.change = change

    def encode(self, adata):
        totals = np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
        return self.change(np.hstack([totals, np.sqrt(totals)]))


class Failing:
    def encode(self, adata):
        message = "no weights"
        raise RuntimeError(message)


def make(seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.uniform(1, 9, 12), size=(40, 12)).astype(np.float32)
    obs = pd.DataFrame({"plate": pd.Categorical(list("ab") * 20)}, index=[f"cell{i}" for i in range(40)])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(12)]))


@pytest.fixture
def adata():
    return make()


def test_fits_and_writes_a_pca(adata):
    before = adata.copy()
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3, rng=0)
    assert isinstance(encoder, PCAEncoder)
    expected = PCAEncoder(n_components=3, rng=0).fit(before).encode(before)
    assert adata.obsm["X_pca"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_pca"], expected)
    assert adata.uns["semiclip"]["X_pca"]["params"] == {"encoder": "pca", "n_components": 3, "rng": 0}
    assert (list(adata.obsm), list(adata.uns)) == (["X_pca"], ["semiclip"])
    np.testing.assert_array_equal(adata.X, before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)


def test_a_fitted_encoder_embeds_other_data_in_the_same_space(adata):
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3)
    other = make(1)
    components = encoder.model_.components_.copy()
    assert scl.pp.encode(other, encoder=encoder) is encoder
    np.testing.assert_array_equal(encoder.model_.components_, components)
    np.testing.assert_array_equal(other.obsm["X_pca"], encoder.encode(other))
    assert other.uns["semiclip"]["X_pca"]["params"] == {"encoder": "pca"}


@pytest.mark.parametrize(
    "change", [np.asarray, np.float64, np.float16, np.round, pd.DataFrame, lambda x: x.astype(int)]
)
def test_what_any_object_encodes_becomes_float32(adata, change):
    encoder = Sums(change)
    assert isinstance(encoder, Encoder)
    assert scl.pp.encode(adata, encoder=encoder, key_added="X_sums") is encoder
    assert type(adata.obsm["X_sums"]) is np.ndarray
    assert adata.obsm["X_sums"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_sums"][:, 0], adata.X.sum(axis=1))
    assert adata.uns["semiclip"]["X_sums"]["params"] == {"encoder": "Sums"}


def test_arguments_reach_the_encoder(adata, monkeypatch):
    seen = {}

    class Stub(Sums):
        def __init__(self, **keywords):
            super().__init__()
            seen.update(keywords)

        def fit(self, adata):
            return self

    monkeypatch.setitem(ENCODERS, "scvi", Stub)
    arguments = {"n_latent": 8, "batch_key": "plate", "model_kwargs": {"n_hidden": 64}, "layer": None}
    scl.pp.encode(adata, **arguments)
    assert seen == arguments
    expected = {"encoder": "scvi", "n_latent": 8, "batch_key": "plate", "model_kwargs": {"n_hidden": 64}}
    assert adata.uns["semiclip"]["X_scvi"]["params"] == expected


def test_the_fingerprint_of_the_encoder_is_recorded(adata, tmp_path):
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3)
    other = make(1)
    scl.pp.encode(other, encoder=encoder, key_added="X_other")
    encoder.save(tmp_path / "pca")
    scl.pp.encode(other, encoder=scl.encoders.load(tmp_path / "pca"), key_added="X_loaded")
    records = [adata.uns["semiclip"]["X_pca"], *other.uns["semiclip"].values()]
    assert [set(record) for record in records] == [{"params", "fingerprint"}] * 3
    assert {record["fingerprint"] for record in records} == {encoder.fingerprint}
    scl.pp.encode(other, encoder="pca", n_components=3, key_added="X_other")
    assert other.uns["semiclip"]["X_other"]["fingerprint"] != encoder.fingerprint
    scl.pp.encode(other, encoder=Sums(), key_added="X_other")  # whose encoder nothing is known of
    assert set(other.uns["semiclip"]["X_other"]) == {"params"}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_and_parameters_survive_a_file(adata, suffix, tmp_path):
    scl.pp.encode(adata, encoder="pca", n_components=3, layer=None, rng=np.random.default_rng(0))
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}")
    np.testing.assert_array_equal(back.obsm["X_pca"], adata.obsm["X_pca"])
    expected = {"encoder": "pca", "n_components": 3, "rng": "Generator"}
    assert dict(back.uns["semiclip"]["X_pca"]["params"]) == expected
    assert back.uns["semiclip"]["X_pca"]["fingerprint"] == adata.uns["semiclip"]["X_pca"]["fingerprint"]


def spoiled(bad):
    return Sums(lambda x: np.vstack([[[bad, 1], [1, bad]], x[2:]]))


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        *(
            ({"encoder": name}, errors.UnknownChoice, {"name": "encoder", "value": name})
            for name in ("umap", "mlp", "image", "profiles")
        ),
        ({"encoder": object()}, errors.WrongType, {"name": "encoder", "got": object}),
        ({"encoder": PCAEncoder}, errors.WrongType, {"got": type}),
        ({"encoder": Sums(), "n_latent": 8}, errors.IdleArgument, {"names": ["n_latent"]}),
        ({"encoder": Sums()}, errors.BadValue, {"name": "key_added", "value": None}),
        ({"encoder": PCAEncoder()}, RuntimeError, {}),
        ({"encoder": SCVIEncoder()}, RuntimeError, {}),
        ({"encoder": "pca", "n_components": 13}, ValueError, {}),
        ({"encoder": "pca", "layer": "counts"}, KeyError, {}),
        ({"encoder": "pca", "dimensions": 3}, errors.UnexpectedArgument, {"names": ["dimensions"]}),
        ({"encoder": "scgpt"}, errors.UnexpectedArgument, {"names": []}),
        ({"encoder": "pca", "key_added": "X/pca"}, errors.CannotWrite, {}),
        ({"encoder": Failing(), "key_added": "X_own"}, RuntimeError, {}),
        *(
            ({"encoder": Sums(change), "key_added": "X_own"}, ValueError, {})
            for change in (lambda x: x[:-1], lambda x: x[:, 0], lambda x: x.T, lambda x: x[None], lambda x: x[:, :0])
        ),
        *(
            ({"encoder": spoiled(bad), "key_added": "X_own"}, errors.NotFinite, {"rows": ["cell0", "cell1"]})
            for bad in (np.nan, np.inf, np.float64(1e300))
        ),
    ],
)
def test_refuses_and_writes_nothing(adata, refuses, change, error, data):
    adata.obsm["X_pca"] = np.ones((40, 2))
    adata.uns["semiclip"] = {"X_pca": {"params": {"encoder": "before"}}}
    before = adata.copy()
    with refuses(error, **data):
        scl.pp.encode(adata, **change)
    assert list(adata.obsm) == ["X_pca"]
    np.testing.assert_array_equal(adata.obsm["X_pca"], before.obsm["X_pca"])
    assert adata.uns == before.uns
    np.testing.assert_array_equal(adata.X, before.X)


def test_refuses_before_any_work(adata, refuses):
    with refuses(errors.CannotWrite):
        scl.pp.encode(adata[:20], encoder=Failing(), key_added="X_own")
    with refuses(errors.CannotWrite):
        scl.pp.encode(adata, encoder=Failing(), key_added="X/own")
    with refuses(errors.Empty):
        scl.pp.encode(adata[:0].copy(), encoder=Failing(), key_added="X_own")
    assert not adata.obsm
    assert not adata.uns


def test_values_that_are_logged_already_are_warned_of_once(adata, caplog):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    scl.pp.encode(adata, encoder="pca", n_components=3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    scl.pp.encode(adata, encoder="pca", n_components=3, layer="counts")
    scl.pp.encode(adata, encoder="pca", n_components=3, normalize=False)
    assert not caplog.records
