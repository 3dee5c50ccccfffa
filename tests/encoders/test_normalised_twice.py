"""What is normalised already is not taken for counts without a word."""

import logging

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


def warnings_of(caplog):
    """Return what each warning says of the values and of the way out."""
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    warned = [record.args for record in caplog.records]
    caplog.clear()
    return warned


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_each_call_says_once_what_it_does_and_the_way_out(embed, logged, make, kind, convert, caplog):
    adata = logged(make(convert=convert))
    encoder = kind().fit(adata)
    for call in (lambda: None, lambda: embed(encoder, adata)):
        call()
        ((where, way_out),) = warnings_of(caplog)
        assert "log1p" in where
        assert "layer='counts'" in way_out


def test_both_ways_out_are_silent_and_right(embed, logged, make, kind, caplog):
    counts, adata = make(), logged(make())
    right = embed(kind().fit(counts), counts)
    for options in ({"layer": "counts"}, {"normalize": False}):
        np.testing.assert_allclose(embed(kind(**options).fit(adata), adata), right, rtol=1e-3, atol=1e-3)
    adata.X = adata.layers["counts"]  # whatever uns says
    np.testing.assert_array_equal(embed(kind().fit(counts), adata), right)
    assert not caplog.records


def test_fractions_of_counts_are_taken_and_layers_of_whole_numbers_are_named(make, log_normalised, kind, caplog):
    adata, values = make(), make().X + np.float32(0.25)
    adata.layers["soup"] = values
    adata.layers["z"] = adata.X - 5  # whole numbers that are no counts
    adata.layers["raw"] = sparse.csr_matrix(adata.X)
    adata.layers["words"] = adata.X.astype(str)
    adata.uns["log1p"] = {}  # of X, which is not read
    encoder = kind(layer="soup").fit(adata)
    ((where, way_out),) = warnings_of(caplog)
    assert where == "layers['soup']"
    assert way_out.startswith("layer=None or layer='raw',")
    np.testing.assert_allclose(encoder.features(adata), log_normalised(values), rtol=1e-5)


def test_encoding_is_warned_of_once(logged, make, caplog):
    adata = logged(make())
    scl.pp.encode(adata, encoder="pca", n_components=3)  # fits and encodes
    assert len(warnings_of(caplog)) == 1


def test_a_single_fraction_is_found_but_what_is_refused_is_not_warned_of(make, kind, caplog, refuses):
    adata = make()
    adata.X[49, 14] = 0.5
    kind().fit(adata)
    assert [where for where, _ in warnings_of(caplog)] == ["X"]
    adata.X[3, 0] = -0.5
    with refuses(errors.NotCounts, rows=["cell3"]):
        kind().fit(adata)
    assert not caplog.records
