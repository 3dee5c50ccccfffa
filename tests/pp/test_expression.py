import re

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.encoders import MLPEncoder, PCAEncoder, SCVIEncoder, Trainable


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
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    options = {PCAEncoder: {"n_components": 3}, SCVIEncoder: {"max_epochs": 1, "train_kwargs": quiet}}
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


def test_copy_and_views(adata):
    encoder = MLPEncoder().fit(adata)
    copied = scl.pp.expression(adata, encoder=encoder, copy=True)
    assert not adata.obsm
    assert not adata.uns
    part = scl.pp.expression(adata[5:15], encoder=encoder, copy=True)
    np.testing.assert_array_equal(part.obsm["X_expression"], copied.obsm["X_expression"][5:15])
    assert part.uns["semiclip"]["X_expression"]["params"] == {"encoder": "MLPEncoder"}
    with pytest.raises(ValueError, match="cannot write into a view"):
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


WITHOUT = "without architecture, weights() and features(adata); pass a fitted encoder that has them, such as scl.enc"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"encoder": "pca"}, TypeError, f"encoder is a str {WITHOUT}"),
        ({"encoder": Frozen()}, TypeError, f"encoder is a Frozen {WITHOUT}"),
        ({"encoder": MLPEncoder}, TypeError, f"encoder is a type {WITHOUT}"),
        ({"encoder": MLPEncoder()}, RuntimeError, "this encoder is not fitted; call .fit(adata) on the training data"),
        ({"encoder": PCAEncoder()}, RuntimeError, "this encoder is not fitted; call .fit(adata) on the training data"),
        ({"encoder": SCVIEncoder()}, RuntimeError, "this encoder is not fitted; call .fit(adata) on the training data"),
        ({"encoder": Doubled(), "key_added": "X/own"}, ValueError, "key_added='X/own' contains '/'"),
        *(
            (
                {"encoder": Doubled(change)},
                ValueError,
                f"the encoder returned features of shape {shape}, but its network reads (40, 12)",
            )
            for change, shape in [
                (lambda x: x[:, 1:], "(40, 11)"),
                (lambda x: x[1:], "(39, 12)"),
                (lambda x: x[:, 0], "(40,)"),
            ]
        ),
        *(
            (
                {"encoder": Doubled(lambda x, bad=bad: np.vstack([np.full((2, 12), bad), x[2:]]))},
                ValueError,
                "expression holds NaN or infinite values in 2 row(s): cell0, cell1;",
            )
            for bad in (np.nan, np.inf, np.float64(1e300))
        ),
    ],
)
def test_refuses_and_writes_nothing(adata, change, error, message):
    assert isinstance(Doubled(), Trainable)
    adata.obsm["X_expression"] = np.ones((40, 2))
    with pytest.raises(error, match=re.escape(message)):
        scl.pp.expression(adata, **change)
    np.testing.assert_array_equal(adata.obsm["X_expression"], np.ones((40, 2)))
    assert not adata.uns


def test_refuses_other_data(adata):
    encoder = MLPEncoder(min_overlap=1).fit(adata)
    with pytest.raises(ValueError, match="only 11 of the 12 genes .* are in var_names, below .* missing are gene7"):
        scl.pp.expression(adata[:, adata.var_names != "gene7"].copy(), encoder=encoder)
    with pytest.raises(ValueError, match="the AnnData has no observations"):
        scl.pp.expression(adata[:0].copy(), encoder=encoder)


def test_refuses_an_scvi_that_its_network_would_not_be(adata):
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    encoder = SCVIEncoder(max_epochs=1, model_kwargs={"use_layer_norm": "both"}, train_kwargs=quiet).fit(adata)
    with pytest.raises(ValueError, match="cannot be trained further, since it has layer normalisation"):
        scl.pp.expression(adata, encoder=encoder)
    assert not adata.obsm
