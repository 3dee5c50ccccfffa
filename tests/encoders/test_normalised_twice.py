"""What is normalised already is not taken for counts without a word."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip.encoders import MLPEncoder, PCAEncoder
from semiclip.encoders._protocol import warned_once

KINDS = {"pca": lambda **keywords: PCAEncoder(n_components=3, **keywords), "mlp": MLPEncoder}
MESSAGE = (
    "{} holds numbers that are not whole, but is scaled to 10,000 counts in each sample and logged; if it is "
    "normalised already, pass {} or normalize=False, or put counts in its place"
)
LOGGED, UNKNOWN = "X, which is logged by uns['log1p'],", "the layer of the counts as layer="


def make(seed=0, convert=np.asarray):
    values = np.random.default_rng(seed).poisson(5, (30, 12)).astype(np.float32)
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(30)])
    return anndata.AnnData(convert(values), obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(12)]))


def logged(adata, *, keep=True):
    """Normalise as scanpy does."""
    out = adata.copy()
    if keep:
        out.layers["counts"] = adata.X.copy()
    dense = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    values = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    out.X = type(adata.X)(values) if sparse.issparse(adata.X) else values
    out.uns["log1p"] = {}
    return out


def use(encoder, adata):
    return encoder.encode(adata) if isinstance(encoder, PCAEncoder) else encoder.features(adata)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_each_call_says_once_what_it_does_and_the_way_out(kind, convert, caplog):
    adata = logged(make(convert=convert))
    encoder = kind().fit(adata)
    expected = MESSAGE.format(LOGGED, "layer='counts', whole numbers,")
    assert caplog.messages == [expected]
    use(encoder, adata)
    assert caplog.messages == [expected] * 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_both_ways_out_are_silent_and_right(kind, caplog):
    counts, adata = make(), logged(make())
    right = use(kind().fit(counts), counts)
    for options in ({"layer": "counts"}, {"normalize": False}):
        np.testing.assert_allclose(use(kind(**options).fit(adata), adata), right, rtol=1e-3, atol=1e-3)
    adata.X = adata.layers["counts"]  # whatever uns says
    np.testing.assert_array_equal(use(kind().fit(counts), adata), right)
    assert caplog.messages == []


def test_a_query_that_is_logged_is_noticed_by_an_encoder_of_counts(kind, caplog):
    encoder = kind().fit(make())
    use(encoder, make(1))
    assert caplog.messages == []
    use(encoder, logged(make(1), keep=False))
    assert caplog.messages == [MESSAGE.format(LOGGED, UNKNOWN)]


def test_fractions_of_counts_are_taken_and_layers_of_whole_numbers_are_named(kind, caplog):
    adata, values = make(), make().X + np.float32(0.25)
    adata.layers["soup"] = values
    adata.layers["z"] = adata.X - 5  # whole numbers that are no counts
    adata.layers["raw"] = sparse.csr_matrix(adata.X)
    adata.layers["words"] = adata.X.astype(str)
    adata.uns["log1p"] = {}  # of X, which is not read
    encoder = kind(layer="soup").fit(adata)
    assert caplog.messages == [MESSAGE.format("layers['soup']", "layer=None or layer='raw', whole numbers,")]
    np.testing.assert_allclose(
        encoder.features(adata), np.log1p(1e4 * values / values.sum(axis=1, keepdims=True)), rtol=1e-5
    )


def test_a_single_fraction_is_found(kind, caplog):
    adata = make()
    adata.X[29, 11] = 0.5
    kind().fit(adata)
    assert caplog.messages == [MESSAGE.format("X", UNKNOWN)]


def test_what_is_refused_is_not_warned_of(kind, caplog):
    adata = make()
    adata.X[3, 0], adata.X[4, 1] = -0.5, 0.5
    with pytest.raises(ValueError, match=r"negative in 1 row\(s\): cell3"):
        kind().fit(adata)
    assert caplog.messages == []


def test_blocks_of_one_data_set_are_warned_of_once(kind, caplog):
    encoder = kind().fit(make())
    with warned_once():
        for rows in (slice(0, 9), slice(9, 30)):
            use(encoder, logged(make())[rows])
    assert len(caplog.messages) == 1


def test_encoding_by_name_is_warned_of(caplog):
    adata = logged(make())
    scl.pp.encode(adata, encoder="pca", n_components=3)
    assert set(caplog.messages) == {MESSAGE.format(LOGGED, "layer='counts', whole numbers,")}
