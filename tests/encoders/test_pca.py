import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from semiclip import errors
from semiclip.encoders import PCAEncoder, load


@pytest.fixture
def counts(make):
    """Make counts of unequal depth with an empty sample."""

    def counts(seed=0, convert=np.asarray, dtype=np.float32):
        adata = make(seed, n=60, genes=20)
        depth = np.random.default_rng(seed).integers(1, 5, (60, 1))
        depth[4] = 0
        adata.X = convert((adata.X * depth).astype(dtype))
        return adata

    return counts


def test_is_scikit_learns_pca_of_log_normalised_counts(counts, log_normalised):
    encoder = PCAEncoder(n_components=5).fit(counts())
    expected = PCA(5).fit(log_normalised(counts().X))
    for adata in (counts(), counts(1)):
        out = encoder.encode(adata)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, expected.transform(log_normalised(adata.X)), rtol=1e-3, atol=1e-3)
    expected = {"n_input": 20, "n_hidden": [], "n_output": 5, "batch_norm": False, "dropout": 0.0}
    assert encoder.architecture == expected


def test_values_that_are_normalised_already(make, through_network):
    adata = make(n=30, genes=8)
    adata.X = np.random.default_rng(0).normal(size=(30, 8))
    before = adata.X.copy()
    encoder = PCAEncoder(n_components=4, normalize=False).fit(adata)
    out = encoder.encode(adata)
    np.testing.assert_allclose(out, PCA(4).fit_transform(adata.X), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(through_network(encoder, adata), out, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(adata.X, before)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_dense_and_sparse_counts_of_any_type_agree(counts, convert, normalize):
    kinds = (counts(dtype=np.float64), counts(convert=convert, dtype=np.float64), counts(dtype=np.uint16))
    out = [PCAEncoder(n_components=5, normalize=normalize).fit(adata).encode(adata) for adata in kinds]
    np.testing.assert_allclose(out[0], out[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out[0], out[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_the_same_seed_gives_the_same_components(counts, convert):
    adata = counts(convert=convert)
    first, second, drawn, unseeded = (
        PCAEncoder(n_components=3, rng=rng).fit(adata).encode(adata) for rng in (4, 4, np.random.default_rng(4), None)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(drawn, first)
    np.testing.assert_allclose(unseeded, first, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("convert", "n_components", "most"),
    [(np.asarray, 0, 20), (np.asarray, 21, 20), (sparse.csr_matrix, 20, 19), (sparse.csr_matrix, 0, 19)],
)
def test_refuses_a_number_of_components(counts, convert, n_components, most, refuses):
    failing = PCAEncoder(n_components=n_components)
    with refuses(errors.BadValue, name="n_components", value=n_components):
        failing.fit(counts(convert=convert))
    with refuses(errors.NotFitted):
        failing.encode(counts())
    assert PCAEncoder(n_components=most).fit(counts(convert=convert)).encode(counts()).shape == (60, most)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize(
    ("bad", "error"), [(-1, errors.NotCounts), (np.nan, errors.NotFinite), (np.inf, errors.NotFinite)]
)
def test_refuses_values_and_names_their_rows(counts, convert, bad, error, refuses):
    adata = counts()
    encoder = PCAEncoder(n_components=5).fit(adata)
    adata.X[[2, 9], [1, 3]] = bad
    adata.X = convert(adata.X)
    for call in (PCAEncoder(n_components=5).fit, encoder.encode):
        with refuses(error, rows=["cell2", "cell9"]):
            call(adata)


# ---- z-scores


def zscores_of(n=25, genes=20, seed=5):
    """Z-scores of some of the encoder's genes in another order, and of one that it does not know."""
    rng = np.random.default_rng(seed)
    names = [f"gene{i}" for i in rng.permutation(genes)[: genes * 3 // 5]]
    return rng.normal(size=(n, len(names) + 1)).astype(np.float32), [*names, "elsewhere"]


@pytest.fixture
def scored(make):
    def scored(convert=np.asarray):
        z, names = zscores_of()
        adata = make(genes=names, n=len(z))
        adata.X = convert(z)
        return adata

    return scored


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of missing genes
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_zscores_are_read_as_deviations_from_the_mean_in_training(counts, scored, log_normalised, convert, normalize):
    train, (z, names) = counts(convert=convert), zscores_of()
    encoder = PCAEncoder(n_components=5, normalize=normalize, min_overlap=0.6).fit(train)
    values = log_normalised(counts().X) if normalize else counts().X
    mean, sd = values.mean(axis=0, dtype=float), values.std(axis=0, dtype=float)
    filled = np.tile(mean, (len(z), 1))  # a missing gene is at its mean
    for column, name in zip(z.T, names[:-1], strict=False):
        gene = int(name.removeprefix("gene"))
        filled[:, gene] = mean[gene] + sd[gene] * column
    components = encoder.model_.components_
    expected = np.array([[component @ (row - mean) for component in components] for row in filled])
    for kind in (np.asarray, sparse.csr_matrix, sparse.csc_array):
        query = scored(kind)
        before = query.X.copy()
        out = encoder.encode(query, zscores=True)
        assert out.dtype == np.float32 and type(out) is np.ndarray
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        assert not np.abs(query.X - before).sum()


def test_zscores_of_the_training_data_are_embedded_as_the_training_data(counts, log_normalised):
    train = counts()
    encoder = PCAEncoder(n_components=5).fit(train)
    values = log_normalised(train.X)
    scored = train.copy()
    scored.X = (values - values.mean(axis=0)) / values.std(axis=0)
    np.testing.assert_allclose(encoder.encode(scored, zscores=True), encoder.encode(train), rtol=1e-3, atol=1e-3)


def test_missing_genes_of_zscores_are_named_and_too_few_are_refused(counts, scored, refuses, warned):
    encoder = PCAEncoder(n_components=3).fit(counts())
    with refuses(errors.TooFew, number=12, needed=16):
        encoder.encode(scored(), zscores=True)
    encoder.min_overlap = 0.6
    encoder.encode(scored(), zscores=True)
    (message,) = warned()
    assert "8 of the 20 genes" in message


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")
def test_counts_are_hardly_zscores_and_zscores_are_no_counts(counts, scored, refuses, warned):
    encoder = PCAEncoder(n_components=3, min_overlap=0.6).fit(counts())
    encoder.encode(counts(), zscores=True)
    (message,) = warned()
    assert "zscores=True" in message
    with pytest.raises(errors.NotCounts) as caught:
        encoder.encode(scored())
    assert "zscores=True" in caught.value.way_out
    query = scored()
    query.X[[2, 7], 3] = np.nan
    with refuses(errors.NotFinite, rows=["cell2", "cell7"]):
        encoder.encode(query, zscores=True)


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")
def test_a_saved_encoder_reads_zscores_as_well(counts, scored, refuses, tmp_path):
    encoder = PCAEncoder(n_components=3, min_overlap=0.6).fit(counts())
    encoder.save(tmp_path / "new")
    again = load(tmp_path / "new")
    np.testing.assert_array_equal(again.encode(scored(), zscores=True), encoder.encode(scored(), zscores=True))
    encoder.sd_ = None  # as in a file from before there were any
    encoder.save(tmp_path / "old")
    older = load(tmp_path / "old")
    assert older.fingerprint == again.fingerprint
    np.testing.assert_array_equal(older.encode(counts()), again.encode(counts()))
    with refuses(errors.NotFitted):
        older.encode(scored(), zscores=True)
