"""What is normalised already is not taken for counts without a word."""

import numpy as np
import pytest
from scipy import sparse

import semiclip as scl
from semiclip import errors
from semiclip.encoders import MLPEncoder, PCAEncoder

KINDS = {"pca": lambda **keywords: PCAEncoder(n_components=3, **keywords), "mlp": MLPEncoder}


@pytest.fixture
def logged(log_normalised):
    """Normalise as scanpy does."""

    def log(adata, *, keep=True):
        out = adata.copy()
        if keep:
            out.layers["counts"] = adata.X.copy()
        out.X = type(adata.X)(log_normalised(adata.X)) if sparse.issparse(adata.X) else log_normalised(adata.X)
        out.uns["log1p"] = {}
        return out

    return log


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_each_call_says_once_what_it_does_and_the_way_out(embed, logged, make, kind, convert, warned):
    adata = logged(make(convert=convert))
    encoder = kind().fit(adata)
    for call in (lambda: None, lambda: embed(encoder, adata)):
        call()
        (message,) = warned()
        assert message.startswith("X, ")
        assert "log1p" in message
        assert "layer='counts'" in message


def test_both_ways_out_are_silent_and_right(embed, logged, make, kind, warned):
    counts, adata = make(), logged(make())
    right = embed(kind().fit(counts), counts)
    for options in ({"layer": "counts"}, {"normalize": False}):
        np.testing.assert_allclose(embed(kind(**options).fit(adata), adata), right, rtol=1e-3, atol=1e-3)
    adata.X = adata.layers["counts"]  # whatever uns says
    np.testing.assert_array_equal(embed(kind().fit(counts), adata), right)
    assert not warned()


def test_fractions_of_counts_are_taken_and_layers_of_whole_numbers_are_named(make, log_normalised, kind, warned):
    adata, values = make(), make().X + np.float32(0.25)
    adata.layers["soup"] = values
    adata.layers["z"] = adata.X - 5  # whole numbers that are no counts
    adata.layers["raw"] = sparse.csr_matrix(adata.X)
    adata.layers["words"] = adata.X.astype(str)
    adata.uns["log1p"] = {}  # of X, which is not read
    encoder = kind(layer="soup").fit(adata)
    (message,) = warned()
    assert message.startswith("layers['soup'] ")
    assert "layer=None or layer='raw'," in message
    assert not any(word in message for word in ("'z'", "'words'", "log1p"))
    np.testing.assert_allclose(encoder.features(adata), log_normalised(values), rtol=1e-5)


def test_encoding_is_warned_of_once(logged, make, warned):
    adata = logged(make())
    scl.pp.encode(adata, encoder="pca", n_components=3)  # fits and encodes
    assert len(warned()) == 1


def test_a_single_fraction_is_found_but_what_is_refused_is_not_warned_of(make, kind, warned, refuses):
    adata = make()
    adata.X[49, 14] = 0.5
    kind().fit(adata)
    (message,) = warned()
    assert message.startswith("X ")
    adata.X[3, 0] = -0.5
    with refuses(errors.NotCounts, rows=["cell3"]):
        kind().fit(adata)
    assert not warned()
