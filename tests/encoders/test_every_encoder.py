"""What all encoders of expression have in common."""

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from semiclip import errors
from semiclip.encoders import ENCODERS, Encoder, MLPEncoder, PCAEncoder, ScGPTEncoder, SCVIEncoder, Trainable, build

GENES = [f"gene{i}" for i in range(15)]


@pytest.fixture(params=["pca", "mlp", "scvi", "scgpt"])
def new(request, new_scvi, tiny_scgpt):
    """Make an encoder that is not fitted."""
    return {
        "pca": lambda **options: PCAEncoder(n_components=4, rng=0, **options),
        "mlp": MLPEncoder,
        "scvi": new_scvi,
        "scgpt": lambda **options: ScGPTEncoder(tiny_scgpt(GENES), device="cpu", progress_bar=False, **options),
    }[request.param]


def close(out, expected):
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


def test_it_keeps_to_the_protocol_and_must_be_fitted(new, make, refuses, tmp_path):
    encoder = new()
    assert isinstance(encoder, Encoder)
    for call in (
        lambda: encoder.encode(make()),
        lambda: encoder.features(make()),
        lambda: encoder.architecture,
        lambda: encoder.fingerprint,
        lambda: encoder.save(tmp_path / "encoder"),
        lambda: encoder.weights() or encoder.encode(make()),  # a perceptron has no weights at all
    ):
        with refuses(errors.NotFitted):
            call()
    assert encoder.fit(make()) is encoder
    assert isinstance(encoder, Trainable)
    assert not isinstance(object(), Encoder | Trainable)
    assert ENCODERS == {"pca": PCAEncoder, "scvi": SCVIEncoder, "scgpt": ScGPTEncoder}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_counts_of_any_kind_and_views_are_read_and_left_alone(new, make, embed, convert, dtype):
    encoder, adata = new().fit(make()), make(convert=convert, dtype=dtype)
    expected = embed(encoder, make())
    assert expected.dtype == np.float32 and len(expected) == 50
    close(embed(encoder, adata), expected)
    view = adata[10:30]
    close(embed(encoder, view), expected[10:30])
    features = encoder.features(adata)
    assert type(features) is np.ndarray and features.dtype == np.float32
    features[:] = -1
    if dtype is np.float32:
        new().fit(view)
    assert view.is_view
    assert not adata.uns and not adata.obsm and list(adata.obs) == ["plate"]
    assert adata.X.dtype == dtype and not np.abs(adata.X - make().X).sum()


def test_genes_are_matched_by_name_and_further_genes_ignored_silently(new, make, embed, caplog):
    encoder, adata = new().fit(make()), make(1)
    expected = embed(encoder, adata)
    caplog.clear()
    more = anndata.concat([anndata.AnnData(np.ones((50, 3)), obs=adata.obs), adata], axis=1, merge="first")
    for other in (adata[:, GENES[::-1]].copy(), more):
        close(embed(encoder, other), expected)
        close(encoder.features(other), encoder.features(adata))
    assert not caplog.records


def test_takes_a_layer(new, make, embed):
    adata = make()
    adata.layers["counts"], adata.X = adata.X.copy(), np.log1p(adata.X)
    np.testing.assert_array_equal(embed(new(layer="counts").fit(adata), adata), embed(new().fit(make()), make()))


def test_draws_are_its_own(new, make, embed):
    adata, state = make(), torch.get_rng_state()
    encoder = new()
    torch.set_rng_state(state)  # a checkpoint was made
    outs = []
    for _ in range(2):
        outs.append(embed(encoder.fit(adata), adata))
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(5)
        state = torch.get_rng_state()
    np.testing.assert_array_equal(outs[0], outs[1])


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_its_network_gives_the_same_embedding_and_weights_are_copies(new, make, through_network, convert):
    encoder, adata = new().fit(make()), make(1, convert=convert, plates="xyz")
    if (weights := encoder.weights()) is None:
        built = build(encoder.architecture).eval()
        assert built(torch.as_tensor(encoder.features(adata))).shape == (50, 64)
        return
    for data in (adata, adata[:, GENES[::-1]].copy()):
        out = encoder.encode(data)
        np.testing.assert_allclose(through_network(encoder, data), out, rtol=1e-4, atol=1e-4 * np.abs(out).max())
    encoder.architecture["n_output"] = 1
    for value in weights.values():
        value.zero_()
    np.testing.assert_array_equal(encoder.encode(data), out)
