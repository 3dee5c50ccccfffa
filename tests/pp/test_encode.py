import re

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
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
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3)
    assert isinstance(encoder, PCAEncoder)
    expected = PCAEncoder(n_components=3).fit(before).encode(before)
    assert adata.obsm["X_pca"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_pca"], expected)
    assert adata.uns["semiclip"]["X_pca"]["params"] == {"encoder": "pca", "n_components": 3}
    assert list(adata.obsm) == ["X_pca"]
    assert list(adata.uns) == ["semiclip"]
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
    again = adata.copy()
    scl.pp.encode(again, encoder=encoder, key_added="X_again")
    np.testing.assert_allclose(again.obsm["X_again"], adata.obsm["X_pca"], rtol=1e-5, atol=1e-5)


def test_any_object_that_encodes_will_do(adata):
    assert isinstance(Sums(), Encoder)
    encoder = Sums()
    assert scl.pp.encode(adata, encoder=encoder, key_added="X_sums") is encoder
    np.testing.assert_array_equal(adata.obsm["X_sums"][:, 0], adata.X.sum(axis=1))
    assert adata.obsm["X_sums"].dtype == np.float32
    assert adata.uns["semiclip"]["X_sums"]["params"] == {"encoder": "Sums"}


@pytest.mark.parametrize("change", [np.float64, np.float16, np.round, pd.DataFrame, lambda x: x.astype(int)])
def test_what_an_encoder_returns_becomes_float32(adata, change):
    scl.pp.encode(adata, encoder=Sums(change), key_added="X_sums")
    assert type(adata.obsm["X_sums"]) is np.ndarray
    assert adata.obsm["X_sums"].dtype == np.float32


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


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"encoder": "umap"},
            ValueError,
            "encoder='umap' is not one of pca, scvi, scgpt; for embeddings made elsewhere",
        ),
        ({"encoder": object()}, TypeError, "encoder is a object without encode(adata); pass such an object, or pca"),
        ({"encoder": PCAEncoder}, TypeError, "encoder is a type without encode(adata)"),
        ({"encoder": Sums(), "n_latent": 8}, TypeError, "the encoder is already fitted, so n_latent would have no"),
        ({"encoder": Sums()}, ValueError, "key_added= is needed for an encoder of type Sums"),
        ({"encoder": PCAEncoder()}, RuntimeError, "this encoder is not fitted; call .fit(adata) on the training data"),
        ({"encoder": SCVIEncoder()}, RuntimeError, "this encoder is not fitted; call .fit(adata) on the training data"),
        ({"encoder": "pca", "n_components": 13}, ValueError, "n_components=13"),
        ({"encoder": "pca", "layer": "counts"}, KeyError, "layer='counts' is not in layers, which has nothing"),
        (
            {"encoder": "pca", "dimensions": 3},
            TypeError,
            "encoder='pca': got an unexpected keyword argument 'dimensions'; PCAEncoder takes n_components, norm",
        ),
        (
            {"encoder": "scgpt"},
            TypeError,
            "encoder='scgpt': missing a required argument: 'checkpoint'; ScGPTEncoder takes checkpoint, gene_key, ",
        ),
        ({"encoder": "mlp"}, ValueError, "encoder='mlp' is not fitted on expression alone; lay out scl.encoders.MLPE"),
        ({"encoder": "image"}, ValueError, "for a table of image files there is scl.pp.images"),
        ({"encoder": "profiles"}, ValueError, "for a table of features there is scl.pp.profiles"),
        ({"encoder": "pca", "key_added": "X/pca"}, ValueError, "key_added='X/pca' contains '/'"),
        ({"encoder": Failing(), "key_added": "X_own"}, RuntimeError, "no weights"),
        *(
            ({"encoder": Sums(change), "key_added": "X_own"}, ValueError, f"the encoder returned shape {shape} for 40")
            for change, shape in [
                (lambda x: x[:-1], "(39, 2)"),
                (lambda x: x[:, 0], "(40,)"),
                (lambda x: x.T, "(2, 40)"),
                (lambda x: x[None], "(1, 40, 2)"),
                (lambda x: x[:, :0], "(40, 0)"),
            ]
        ),
        *(
            (
                {"encoder": Sums(lambda x, bad=bad: np.vstack([[[bad, 1], [1, bad]], x[2:]])), "key_added": "X_own"},
                ValueError,
                "the embedding holds NaN or infinite values in 2 row(s): cell0, cell1;",
            )
            for bad in (np.nan, np.inf, np.float64(1e300))
        ),
    ],
)
def test_refuses_and_writes_nothing(adata, change, error, message):
    adata.obsm["X_pca"] = np.ones((40, 2))
    adata.uns["semiclip"] = {"X_pca": {"params": {"encoder": "before"}}}
    before = adata.copy()
    with pytest.raises(error, match=re.escape(message)):
        scl.pp.encode(adata, **change)
    assert list(adata.obsm) == ["X_pca"]
    np.testing.assert_array_equal(adata.obsm["X_pca"], before.obsm["X_pca"])
    assert adata.uns == before.uns
    np.testing.assert_array_equal(adata.X, before.X)


def test_refuses_a_view_before_any_work(adata):
    with pytest.raises(ValueError, match="cannot write into a view"):
        scl.pp.encode(adata[:20], encoder=Failing(), key_added="X_own")
    with pytest.raises(ValueError, match="contains '/'"):
        scl.pp.encode(adata, encoder=Failing(), key_added="X/own")
    with pytest.raises(ValueError, match="the AnnData has no observations"):
        scl.pp.encode(adata[:0].copy(), encoder=Failing(), key_added="X_own")
    assert not adata.obsm
    assert not adata.uns


def test_values_that_are_logged_already_are_warned_of_once(adata, caplog):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    scl.pp.encode(adata, encoder="pca", n_components=3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "X holds numbers that are not whole" in caplog.text
    assert "pass layer='counts', whole numbers, or normalize=False" in caplog.text
    caplog.clear()
    scl.pp.encode(adata, encoder="pca", n_components=3, layer="counts")
    scl.pp.encode(adata, encoder="pca", n_components=3, normalize=False)
    assert not caplog.records
