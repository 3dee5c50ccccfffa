"""What encoders write: embeddings that stay as they are, and expression that a model's encoder is trained on."""

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.encoders import Encoder, MLPEncoder, PCAEncoder, SCVIEncoder, Trainable

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


class Sums:
    """An encoder of somebody else."""

    def __init__(self, change=lambda embedding: embedding):
        self.change = change

    def encode(self, adata):
        totals = np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
        return self.change(np.hstack([totals, np.sqrt(totals)]))


class Doubled:
    """A trainable encoder of somebody else."""

    architecture = {"n_input": 12, "n_hidden": [], "n_output": 2, "batch_norm": False, "dropout": 0.0}

    def __init__(self, change=lambda features: features):
        self.change = change

    def weights(self):
        return None

    def features(self, adata):
        return self.change(2.0 * adata.X)


class Failing:
    def encode(self, adata):
        raise RuntimeError("no weights")


def make(seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.uniform(1, 9, 12), size=(40, 12)).astype(np.float32)
    obs = pd.DataFrame({"plate": pd.Categorical(list("ab") * 20)}, index=[f"cell{i}" for i in range(40)])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(12)]))


@pytest.fixture
def adata():
    return make()


def assert_unchanged(adata, before):
    np.testing.assert_array_equal(adata.X, before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.var, before.var)


def test_fits_and_writes_a_pca(adata):
    before = adata.copy()
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3, rng=0)
    assert isinstance(encoder, PCAEncoder)
    expected = PCAEncoder(n_components=3, rng=0).fit(before).encode(before)
    assert adata.obsm["X_pca"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_pca"], expected)
    assert adata.uns["semiclip"]["X_pca"]["params"] == {"encoder": "pca", "n_components": 3, "rng": 0}
    assert (list(adata.obsm), list(adata.uns)) == (["X_pca"], ["semiclip"])
    assert_unchanged(adata, before)


def test_the_default_is_a_pca(adata):
    default = adata.copy()
    assert isinstance(scl.pp.encode(default, n_components=3, rng=0), PCAEncoder)
    scl.pp.encode(adata, encoder="pca", n_components=3, rng=0)
    assert list(default.obsm) == ["X_pca"]
    np.testing.assert_array_equal(default.obsm["X_pca"], adata.obsm["X_pca"])


@pytest.mark.parametrize(("name", "home"), [("batch_key", "scvi"), ("n_latent", "scvi"), ("checkpoint", "scgpt")])
def test_an_argument_of_another_encoder_names_it(adata, refuses, name, home):
    with refuses(errors.UnexpectedArgument, names=[name], way_out=f"it is an argument of encoder={home!r}"):
        scl.pp.encode(adata, **{name: 3})


def test_a_fitted_encoder_embeds_other_data_in_the_same_space(adata):
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3)
    other = make(1)
    components = encoder.model_.components_.copy()
    assert scl.pp.encode(other, encoder=encoder) is encoder
    np.testing.assert_array_equal(encoder.model_.components_, components)
    np.testing.assert_array_equal(other.obsm["X_pca"], encoder.encode(other))
    assert other.uns["semiclip"]["X_pca"]["params"] == {"encoder": "pca"}


@pytest.mark.parametrize("change", [np.float64, np.float16, np.round, pd.DataFrame, lambda x: x.astype(int)])
def test_what_any_object_encodes_becomes_float32(adata, change):
    encoder = Sums(change)
    assert isinstance(encoder, Encoder)
    assert scl.pp.encode(adata, encoder=encoder, key_added="X_sums") is encoder
    assert type(adata.obsm["X_sums"]) is np.ndarray
    assert adata.obsm["X_sums"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_sums"][:, 0], adata.X.sum(axis=1))
    assert adata.uns["semiclip"]["X_sums"]["params"] == {"encoder": "Sums"}


def test_the_fingerprint_of_the_encoder_is_recorded(adata, tmp_path):
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3)
    other = make(1)
    scl.pp.encode(other, encoder=encoder, key_added="X_other")
    encoder.save(tmp_path / "pca")
    scl.pp.encode(other, encoder=scl.encoders.load(tmp_path / "pca"), key_added="X_loaded")
    records = [adata.uns["semiclip"]["X_pca"], *other.uns["semiclip"].values()]
    assert [set(record) for record in records] == [{"params", "fingerprint", "rows", "sums"}] * 3
    assert {record["fingerprint"] for record in records} == {encoder.fingerprint}
    scl.pp.encode(other, encoder="pca", n_components=3, key_added="X_other")
    assert other.uns["semiclip"]["X_other"]["fingerprint"] != encoder.fingerprint
    scl.pp.encode(other, encoder=Sums(), key_added="X_other")  # whose encoder nothing is known of
    assert set(other.uns["semiclip"]["X_other"]) == {"params"}


def test_values_that_are_logged_already_are_warned_of_once(adata, warned):
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    scl.pp.encode(adata, encoder="pca", n_components=3)
    (message,) = warned()
    assert "layer='counts'" in message
    scl.pp.encode(adata, encoder="pca", n_components=3, layer="counts")
    scl.pp.encode(adata, encoder="pca", n_components=3, normalize=False)
    assert not warned()


def test_zscores_of_other_data(adata, refuses):
    encoder = scl.pp.encode(adata, encoder="pca", n_components=3)
    query = make(1)
    query.X = np.random.default_rng(0).normal(size=query.shape)
    scl.pp.encode(query, encoder=encoder, zscores=True)
    np.testing.assert_array_equal(query.obsm["X_pca"], encoder.encode(query, zscores=True))
    record = query.uns["semiclip"]["X_pca"]
    assert record["params"] == {"encoder": "pca", "zscores": True}
    assert record["fingerprint"] == encoder.fingerprint  # so that a model takes it
    with refuses(errors.Conflict, first="zscores=True"):
        scl.pp.encode(query, encoder="pca", zscores=True)
    with refuses(errors.BadValue, name="zscores"):
        scl.pp.encode(query, encoder=Sums(), key_added="X_sums", zscores=True)
    assert list(query.obsm) == ["X_pca"]


# ---- expression for a network


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        (MLPEncoder, {}, "MLPEncoder"),
        (PCAEncoder, {"n_components": 3}, "pca"),
        (Doubled, {}, "Doubled"),
        (SCVIEncoder, {"max_epochs": 1, "train_kwargs": QUIET}, "scvi"),
    ],
)
def test_writes_what_the_network_reads(adata, kind, options, name):
    encoder = kind(**options)
    encoder = encoder.fit(make(1)) if hasattr(encoder, "fit") else encoder
    before = adata.copy()
    assert scl.pp.expression(adata, encoder=encoder) is None
    normalised = np.log1p(1e4 * before.X / before.X.sum(axis=1, keepdims=True))
    expected = {"scvi": np.log1p(before.X), "Doubled": 2 * before.X}.get(name, normalised)
    np.testing.assert_allclose(adata.obsm["X_expression"], expected, rtol=1e-5)
    assert adata.obsm["X_expression"].dtype == np.float32
    (record,) = adata.uns["semiclip"].values()
    assert record["params"] == {"encoder": name}
    assert record.get("fingerprint") == (encoder.fingerprint if name != "Doubled" else None)
    assert ("sums" in record) == (name != "Doubled")
    assert list(adata.obsm) == ["X_expression"]
    assert_unchanged(adata, before)


def test_genes_come_in_the_order_of_the_encoder_and_do_not_change_with_x(adata):
    encoder = MLPEncoder(normalize=False).fit(adata)
    scl.pp.expression(adata, encoder=encoder, key_added="X_mlp")
    other = adata[:, ::-1].copy()
    scl.pp.expression(other, encoder=encoder, key_added="X_mlp")
    np.testing.assert_allclose(other.obsm["X_mlp"], adata.obsm["X_mlp"], rtol=1e-5)
    adata.X += 1
    np.testing.assert_array_equal(adata.obsm["X_mlp"] + 1, adata.X)


def test_copy_and_subsets(adata, refuses):
    encoder = MLPEncoder().fit(adata)
    copied = scl.pp.expression(adata, encoder=encoder, copy=True)
    assert not adata.obsm
    assert not adata.uns
    part = scl.pp.expression(adata[5:15], encoder=encoder, copy=True)
    np.testing.assert_array_equal(part.obsm["X_expression"], copied.obsm["X_expression"][5:15])
    assert part.uns["semiclip"]["X_expression"]["params"] == {"encoder": "MLPEncoder"}
    with refuses(errors.CannotWrite):
        scl.pp.expression(adata[5:15], encoder=encoder)


# ---- both


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_and_parameters_survive_a_file(adata, suffix, tmp_path):
    scl.pp.encode(adata, encoder="pca", n_components=3, layer=None, rng=np.random.default_rng(0))
    scl.pp.expression(adata, encoder=MLPEncoder().fit(adata))
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}")
    for key, expected in adata.obsm.items():
        np.testing.assert_array_equal(back.obsm[key], expected)
        assert back.obsm[key].dtype == np.float32
    records = back.uns["semiclip"]
    assert dict(records["X_pca"]["params"]) == {"encoder": "pca", "n_components": 3, "rng": "Generator"}
    assert records["X_pca"]["fingerprint"] == adata.uns["semiclip"]["X_pca"]["fingerprint"]
    assert dict(records["X_expression"]["params"]) == {"encoder": "MLPEncoder"}


def spoiled(bad):
    return lambda values: np.vstack([[[bad] * values.shape[1]] * 2, values[2:]])


ENCODE, EXPRESS = scl.pp.encode, scl.pp.expression
BAD = (np.nan, np.inf, np.float64(1e300))
CHANGES = (lambda x: x[:-1], lambda x: x[:, 0], lambda x: x.T, lambda x: x[None], lambda x: x[:, :0])


@pytest.mark.parametrize(
    ("function", "change", "error", "data"),
    [
        *((ENCODE, {"encoder": name}, errors.UnknownChoice, {"value": name}) for name in ("umap", "mlp", "image")),
        (ENCODE, {"encoder": object()}, errors.WrongType, {"name": "encoder", "got": object}),
        (ENCODE, {"encoder": PCAEncoder}, errors.WrongType, {"got": type}),
        (ENCODE, {"encoder": Sums(), "n_latent": 8}, errors.IdleArgument, {"names": ["n_latent"]}),
        (ENCODE, {"encoder": Sums()}, errors.BadValue, {"name": "key_added", "value": None}),
        (ENCODE, {"encoder": PCAEncoder()}, RuntimeError, {}),
        (ENCODE, {"encoder": "pca", "n_components": 13}, ValueError, {}),
        (ENCODE, {"encoder": "pca", "layer": "counts"}, KeyError, {}),
        (ENCODE, {"encoder": "pca", "dimensions": 3}, errors.UnexpectedArgument, {"names": ["dimensions"]}),
        (ENCODE, {"encoder": "scgpt"}, errors.UnexpectedArgument, {"names": []}),
        (ENCODE, {"encoder": Failing(), "key_added": "X/pca"}, errors.CannotWrite, {}),
        (ENCODE, {"encoder": Failing(), "key_added": "X_own"}, RuntimeError, {}),
        *((ENCODE, {"encoder": Sums(change), "key_added": "X_own"}, ValueError, {}) for change in CHANGES),
        *((ENCODE, {"encoder": Sums(spoiled(bad)), "key_added": "X_own"}, errors.NotFinite, {}) for bad in BAD),
        *((EXPRESS, {"encoder": it}, errors.WrongType, {"got": type(it)}) for it in ("pca", Sums(), MLPEncoder)),
        *((EXPRESS, {"encoder": kind()}, RuntimeError, {}) for kind in (MLPEncoder, PCAEncoder, SCVIEncoder)),
        (EXPRESS, {"encoder": Doubled(), "key_added": "X/own"}, errors.CannotWrite, {}),
        (EXPRESS, {"encoder": Doubled(lambda x: x[:, 1:])}, errors.WrongShape, {"shape": (40, 11)}),
        (EXPRESS, {"encoder": Doubled(lambda x: x[:, 0])}, errors.WrongShape, {"shape": (40,)}),
        *((EXPRESS, {"encoder": Doubled(spoiled(bad))}, errors.NotFinite, {"rows": ["cell0", "cell1"]}) for bad in BAD),
    ],
)
def test_refuses_and_writes_nothing(adata, refuses, function, change, error, data):
    assert isinstance(Doubled(), Trainable)
    adata.obsm["X_pca"] = np.ones((40, 2))
    adata.uns["semiclip"] = {"X_pca": {"params": {"encoder": "before"}}}
    before = adata.copy()
    with refuses(error, **data):
        function(adata, **change)
    assert list(adata.obsm) == ["X_pca"]
    np.testing.assert_array_equal(adata.obsm["X_pca"], before.obsm["X_pca"])
    assert adata.uns == before.uns
    assert_unchanged(adata, before)


def test_refuses_data(adata, refuses):
    with refuses(errors.CannotWrite):
        scl.pp.encode(adata[:20], encoder=Failing(), key_added="X_own")
    with refuses(errors.Empty):
        scl.pp.encode(adata[:0].copy(), encoder=Failing(), key_added="X_own")
    encoder = MLPEncoder(min_overlap=1).fit(adata)
    with pytest.raises(ValueError):  # of the encoder, whose tests say which
        scl.pp.expression(adata[:, adata.var_names != "gene7"].copy(), encoder=encoder)
    with refuses(errors.Empty):
        scl.pp.expression(adata[:0].copy(), encoder=encoder)
    normed = SCVIEncoder(max_epochs=1, model_kwargs={"use_layer_norm": "both"}, train_kwargs=QUIET).fit(adata)
    with pytest.raises(ValueError):
        scl.pp.expression(adata, encoder=normed)
    assert not adata.obsm
    assert not adata.uns
