import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors
from semiclip.encoders import MLPEncoder, PCAEncoder, SCVIEncoder, Trainable

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


class Doubled:
    """A trainable encoder of somebody else."""

    architecture = {"n_input": 12, "n_hidden": [], "n_output": 2, "batch_norm": False, "dropout": 0.0}

    def __init__(self, change=lambda features: features):
        self.change = change

    def weights(self):
        return None

    def features(self, adata):
        return self.change(2.0 * adata.X)


def make(seed=0, n=40):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.uniform(1, 9, 12), size=(n, 12)).astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(n)])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(12)]))


@pytest.fixture
def adata():
    return make()


@pytest.mark.parametrize(
    ("kind", "name"), [(MLPEncoder, "MLPEncoder"), (PCAEncoder, "pca"), (Doubled, "Doubled"), (SCVIEncoder, "scvi")]
)
def test_writes_what_the_network_reads(adata, kind, name):
    options = {PCAEncoder: {"n_components": 3}, SCVIEncoder: {"max_epochs": 1, "train_kwargs": QUIET}}
    encoder = kind(**options.get(kind, {}))
    encoder = encoder.fit(make(1)) if hasattr(encoder, "fit") else encoder
    before = adata.copy()
    assert scl.pp.expression(adata, encoder=encoder) is None
    normalised = np.log1p(1e4 * before.X / before.X.sum(axis=1, keepdims=True))
    expected = {"scvi": np.log1p(before.X), "Doubled": 2 * before.X}.get(name, normalised)
    np.testing.assert_allclose(adata.obsm["X_expression"], expected, rtol=1e-5)
    assert adata.obsm["X_expression"].dtype == np.float32
    made_by = {"fingerprint": encoder.fingerprint} if name != "Doubled" else {}
    assert adata.uns == {"semiclip": {"X_expression": {"params": {"encoder": name}, **made_by}}}
    assert list(adata.obsm) == ["X_expression"]
    np.testing.assert_array_equal(adata.X, before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_genes_come_in_the_order_of_the_encoder(adata):
    encoder = MLPEncoder().fit(adata)
    scl.pp.expression(adata, encoder=encoder, key_added="X_mlp")
    other = adata[:, ::-1].copy()
    scl.pp.expression(other, encoder=encoder, key_added="X_mlp")
    np.testing.assert_allclose(other.obsm["X_mlp"], adata.obsm["X_mlp"], rtol=1e-5)


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


def test_values_in_x_do_not_change_with_it(adata):
    scl.pp.expression(adata, encoder=MLPEncoder(normalize=False).fit(adata))
    adata.X += 1
    np.testing.assert_array_equal(adata.obsm["X_expression"] + 1, adata.X)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_survives_a_file(adata, tmp_path, suffix):
    scl.pp.expression(adata, encoder=MLPEncoder().fit(adata))
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}")
    np.testing.assert_array_equal(back.obsm["X_expression"], adata.obsm["X_expression"])
    assert back.obsm["X_expression"].dtype == np.float32
    assert dict(back.uns["semiclip"]["X_expression"]["params"]) == {"encoder": "MLPEncoder"}


class Frozen:
    def encode(self, adata):
        return adata.X


def spoiled(bad):
    return Doubled(lambda x: np.vstack([np.full((2, 12), bad), x[2:]]))


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        *(
            ({"encoder": encoder}, errors.WrongType, {"got": type(encoder)})
            for encoder in ("pca", Frozen(), MLPEncoder)
        ),
        *(({"encoder": kind()}, RuntimeError, {}) for kind in (MLPEncoder, PCAEncoder, SCVIEncoder)),
        ({"encoder": Doubled(), "key_added": "X/own"}, errors.CannotWrite, {}),
        ({"encoder": Doubled(lambda x: x[:, 1:])}, errors.WrongShape, {"shape": (40, 11)}),
        ({"encoder": Doubled(lambda x: x[1:])}, errors.WrongShape, {"shape": (39, 12)}),
        ({"encoder": Doubled(lambda x: x[:, 0])}, errors.WrongShape, {"shape": (40,)}),
        *(
            ({"encoder": spoiled(bad)}, errors.NotFinite, {"rows": ["cell0", "cell1"]})
            for bad in (np.nan, np.inf, np.float64(1e300))
        ),
    ],
)
def test_refuses_and_writes_nothing(adata, refuses, change, error, data):
    assert isinstance(Doubled(), Trainable)
    adata.obsm["X_expression"] = np.ones((40, 2))
    with refuses(error, **data):
        scl.pp.expression(adata, **change)
    np.testing.assert_array_equal(adata.obsm["X_expression"], np.ones((40, 2)))
    assert not adata.uns


def test_refuses_other_data_and_what_its_network_would_not_be(adata, refuses):
    encoder = MLPEncoder(min_overlap=1).fit(adata)
    with pytest.raises(ValueError):  # of the encoder, whose tests say which
        scl.pp.expression(adata[:, adata.var_names != "gene7"].copy(), encoder=encoder)
    with refuses(errors.Empty):
        scl.pp.expression(adata[:0].copy(), encoder=encoder)
    normed = SCVIEncoder(max_epochs=1, model_kwargs={"use_layer_norm": "both"}, train_kwargs=QUIET).fit(adata)
    with pytest.raises(ValueError):
        scl.pp.expression(adata, encoder=normed)
    assert not adata.obsm
