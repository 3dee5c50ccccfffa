"""How encoders read the expression of an AnnData, also one with other genes than those they were fitted on."""

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from semiclip import errors
from semiclip.encoders import MLPEncoder, PCAEncoder, ScGPTEncoder, SCVIEncoder, _expression, network

VALUES = np.arange(12.0).reshape(3, 4)
KINDS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array]
GENES = [f"gene{i}" for i in range(20)]
LACK = ["gene3", "gene4", "gene11", "gene19"]
PRESENT = ~np.isin(GENES, LACK)


@pytest.fixture
def small(make):
    """Make an AnnData of these values."""

    def small(values=VALUES, genes="abcd"):
        adata = make(n=values.shape[0], genes=genes)
        adata.X = values.copy()
        return adata

    return small


@pytest.fixture
def reader(make):
    """Make an encoder whose features are the values of these genes."""

    def reader(genes="abcd", layer=None):
        encoder = MLPEncoder(normalize=False).fit(make(n=2, genes=genes))
        encoder.layer = layer
        return encoder

    return reader


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
@pytest.mark.parametrize("convert", KINDS)
def test_genes_come_in_the_order_of_the_encoder_as_a_new_float32_array(small, reader, convert, dtype):
    adata = small(convert(VALUES.astype(dtype)))
    for genes, places in (("abcd", [0, 1, 2, 3]), ("dbca", [3, 1, 2, 0]), ("db", [3, 1])):
        for data, rows in ((adata, [0, 1, 2]), (adata[[2, 0]], [2, 0])):
            out = reader(genes).features(data)
            np.testing.assert_array_equal(out, VALUES[rows][:, places])
            assert type(out) is np.ndarray and out.dtype == np.float32
            out += 1
    np.testing.assert_array_equal(reader().features(adata), VALUES)


def unpruned(values):
    """Make a csr matrix with room for more values than it has."""
    thin = sparse.csr_matrix(values)
    thin.data = np.append(thin.data, [-9, -9])
    thin.indices = np.append(thin.indices, [0, 0]).astype(thin.indices.dtype)
    return thin


@pytest.mark.parametrize("block", [1, 3, 10, 1000])
@pytest.mark.parametrize("convert", [np.asarray, np.asfortranarray, sparse.csr_array, sparse.csc_array, unpruned])
def test_rows_of_large_matrices_are_found_in_blocks(convert, block, monkeypatch):
    monkeypatch.setattr(_expression, "BLOCK_VALUES", block)
    rng = np.random.default_rng(0)
    for _ in range(30):
        values = rng.poisson(0.5, rng.integers(1, 12, 2)) * rng.choice([1, 1, 1, -1], (1, 1))
        values[rng.random(values.shape) < 0.02] = -1
        expected = [i for i, row in enumerate(values) if any(value < 0 for value in row)]
        assert _expression.find_rows(convert(values), lambda x: x < 0).tolist() == expected
    for shape in ((0, 3), (3, 0)):
        assert _expression.find_rows(convert(np.zeros(shape)), lambda x: x < 0).tolist() == []


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_refuses(small, reader, refuses):
    adata, encoder = small(), reader()
    with refuses(errors.MissingEntry, key="counts", there=[], name="layer"):
        reader(layer="counts").features(adata)
    adata.layers["raw"] = VALUES
    with refuses(errors.MissingEntry, key="counts", there=["raw"], where="layers"):
        reader(layer="counts").features(adata)
    with refuses(errors.Empty):
        encoder.features(anndata.AnnData(obs=adata.obs, var=adata.var))
    with refuses(errors.TooFew, number=1, needed=6):
        reader("qprstua").features(adata)
    adata.X[[0, 2, 2], [3, 1, 2]] = np.nan
    with refuses(errors.NotFinite, rows=["cell0", "cell2"]):
        encoder.features(adata)
    adata.var_names = list("abba")
    with refuses(errors.Repeated, items=["b", "a"]):
        encoder.features(adata)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_values_in_a_file(small, reader, convert, refuses, tmp_path):
    small(convert(VALUES)).write_h5ad(tmp_path / "stored.h5ad")
    backed = anndata.read_h5ad(tmp_path / "stored.h5ad", backed="r")
    with refuses(errors.NotInMemory, where="X"):
        reader().features(backed)
    np.testing.assert_array_equal(reader().features(backed.to_memory()), VALUES)
    backed.file.close()


def test_lazy_values(small, reader, refuses):
    array = pytest.importorskip("dask.array")
    adata, encoder = small(), reader(layer="lazy")
    adata.layers["lazy"] = array.from_array(VALUES)
    with refuses(errors.NotInMemory, where="layers['lazy']"):
        encoder.features(adata)
    np.testing.assert_array_equal(encoder.features(adata.to_memory()), VALUES)


# ---- other genes


@pytest.fixture
def study(make):
    """Make counts of unequal depth with an empty sample; the first genes have most counts."""

    def study(seed=0, n=60, convert=np.asarray, dtype=np.float32, genes=GENES):
        adata, rng = make(n=n, genes=genes), np.random.default_rng(seed)
        values = rng.poisson(rng.uniform(0.5, 2, (n, 1)) * np.geomspace(40, 1, 20), (n, 20)).astype(dtype)
        values[4] = 0
        adata.X = convert(values)
        return adata

    return study


def lacking(adata, seed=0):
    """Without some genes, in another order, with genes of its own in between."""
    extra = anndata.AnnData(np.full((adata.n_obs, 3), 7, dtype=np.float32), obs=adata.obs)
    extra.var_names = ["x", "y", "z"]
    both = anndata.concat([adata[:, PRESENT].copy(), extra], axis=1, merge="first")
    return both[:, np.random.default_rng(seed).permutation(both.n_vars)].copy()


def zeroed(adata):
    adata = adata.copy()
    values = adata.X.toarray() if sparse.issparse(adata.X) else adata.X.copy()
    values[:, ~PRESENT] = 0
    adata.X = values
    return adata


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("convert", KINDS)
def test_genes_that_are_missing_become_zeros_with_a_warning(study, convert, dtype, warned):
    adata = study(convert=convert, dtype=dtype)
    out = MLPEncoder(normalize=False).fit(study()).features(lacking(adata))
    np.testing.assert_array_equal(out, zeroed(study(dtype=dtype)).X)
    (message,) = warned()
    assert "4 of the 20 genes" in message
    assert message.endswith(": gene3, gene4, gene11, gene19")
    encoder = MLPEncoder().fit(study())
    np.testing.assert_allclose(encoder.features(lacking(adata)), encoder.features(zeroed(adata)), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of missing genes
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", KINDS)
def test_pca_gives_missing_genes_their_mean_in_training(study, log_normalised, convert, normalize):
    train, query = study(), study(1, convert=convert)
    encoder = PCAEncoder(n_components=5, normalize=normalize).fit(train)
    values = zeroed(query).X
    if normalize:  # the genes that are there are scaled to what they were of 10,000 counts
        full = train.X[train.X.sum(axis=1) > 0].astype(float)
        shares = (full / full.sum(axis=1, keepdims=True)).mean(axis=0)
        values = log_normalised(values, 1e4 * shares[PRESENT].sum())
    reference = PCA(5).fit(log_normalised(train.X) if normalize else train.X)
    filled = np.where(PRESENT, values, reference.mean_)
    out = encoder.encode(lacking(query))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, reference.transform(filled), rtol=1e-3, atol=1e-3)
    features = encoder.features(lacking(query))
    np.testing.assert_allclose(features, filled, rtol=1e-4)
    built = network(**encoder.architecture)
    built.load_state_dict(encoder.weights())
    with torch.no_grad():
        np.testing.assert_allclose(built(torch.as_tensor(features)).numpy(), out, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of missing genes
def test_scvi_counts_missing_genes_as_zero(study, new_scvi, refuses):
    encoder = new_scvi().fit(study())
    for convert in KINDS:
        query = study(1, convert=convert)
        query.obs["plate"] = "of another study"
        out = encoder.encode(lacking(query))
        np.testing.assert_array_equal(out, encoder.encode(zeroed(query)))
        assert np.abs(out - encoder.encode(query)).max() > 1e-3
        np.testing.assert_array_equal(encoder.features(lacking(query)), np.log1p(zeroed(query).X))
    for call in (encoder.encode, encoder.features, lambda x: encoder.denoise(x, rng=0)):
        with refuses(errors.TooFew, number=15, needed=16):
            call(study()[:, :15].copy())


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of missing genes
def test_refuses_data_with_too_few_of_the_genes(study, refuses):
    pca, mlp = PCAEncoder(n_components=3, min_overlap=0.81).fit(study()), MLPEncoder(min_overlap=0.81).fit(study())
    for call in (pca.encode, pca.features, mlp.features):
        with refuses(errors.TooFew, number=16, needed=17):
            call(study()[:, PRESENT].copy())
    ten = MLPEncoder(min_overlap=0.7).fit(study()[:, :10].copy())  # 0.7 * 10 is a little more than 7
    assert ten.features(study()[:, :7].copy()).shape == (60, 10)


@pytest.mark.parametrize("prefix", ["ENSG", "ENSMUSG"])
def test_how_genes_are_written_is_told(study, prefix):
    ids = [f"{prefix}{i:011d}.2" for i in range(20)]
    for learned, query in ((GENES, ids), (ids, GENES), (ids, [name[:-2] for name in ids])):
        with pytest.raises(errors.TooFew) as caught:
            PCAEncoder(n_components=3).fit(study(genes=learned)).encode(study(genes=query))
        assert caught.value.number == 0
        assert all(names[0] in caught.value.way_out for names in (learned, query))
        assert caught.value.way_out.count("ENSEMBL") == (learned is ids) + (query is not GENES)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, np.nan])
def test_refuses_a_share_out_of_range(make, share):
    for kind in (MLPEncoder, PCAEncoder, SCVIEncoder, lambda **options: ScGPTEncoder("folder", **options)):
        with pytest.raises(errors.BadValue) as caught:
            kind(min_overlap=share).fit(make())
        assert caught.value.name == "min_overlap"
