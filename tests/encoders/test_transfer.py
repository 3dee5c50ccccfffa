"""Encoders meet data that have other genes than those they were fitted on."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA

from semiclip import errors
from semiclip.encoders import MLPEncoder, PCAEncoder, ScGPTEncoder, SCVIEncoder, network

GENES = [f"gene{i}" for i in range(20)]
LACK = ["gene3", "gene4", "gene11", "gene19"]
KEPT = [gene for gene in GENES if gene not in LACK]
KINDS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array]


def make(seed=0, n=60, convert=np.asarray, dtype=np.float32, genes=GENES):
    """Counts of unequal depth with an empty sample; the first genes have most counts."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(rng.uniform(0.5, 2, (n, 1)) * np.geomspace(40, 1, 20), (n, 20)).astype(dtype)
    values[4] = 0
    obs = pd.DataFrame({"plate": np.array(["a", "b"])[np.arange(n) % 2]}, index=[f"cell{i}" for i in range(n)])
    return anndata.AnnData(convert(values), obs=obs, var=pd.DataFrame(index=genes))


def lacking(adata, seed=0):
    """Without some genes, in another order, with genes of its own in between."""
    extra = anndata.AnnData(np.full((adata.n_obs, 3), 7, dtype=np.float32), obs=adata.obs)
    extra.var_names = ["x", "y", "z"]
    both = anndata.concat([adata[:, KEPT].copy(), extra], axis=1, merge="first")
    return both[:, np.random.default_rng(seed).permutation(both.n_vars)].copy()


def zeroed(adata):
    adata = adata.copy()
    values = adata.X.toarray() if sparse.issparse(adata.X) else adata.X.copy()
    values[:, adata.var_names.isin(LACK)] = 0
    adata.X = values
    return adata


@pytest.fixture(scope="module")
def scvi_encoder():
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    return SCVIEncoder(n_latent=4, batch_key="plate", max_epochs=2, rng=0, train_kwargs=quiet).fit(make())


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("convert", KINDS)
def test_genes_that_are_missing_become_zeros_with_a_warning(convert, dtype, caplog):
    adata = make(convert=convert, dtype=dtype)
    out = MLPEncoder(normalize=False).fit(make()).features(lacking(adata))
    np.testing.assert_array_equal(out, zeroed(make(dtype=dtype)).X)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.name.startswith("semiclip.")
    assert record.args == (4, 20, "gene3, gene4, gene11, gene19")
    encoder = MLPEncoder().fit(make())
    np.testing.assert_allclose(encoder.features(lacking(adata)), encoder.features(zeroed(adata)), rtol=1e-6)


@pytest.mark.parametrize("convert", KINDS)
def test_scvi_counts_missing_genes_as_zero(convert, scvi_encoder):
    query = make(1, convert=convert)
    query.obs["plate"] = "of another study"
    out = scvi_encoder.encode(lacking(query))
    np.testing.assert_array_equal(out, scvi_encoder.encode(zeroed(query)))
    assert np.abs(out - scvi_encoder.encode(query)).max() > 1e-3
    np.testing.assert_array_equal(scvi_encoder.features(lacking(query)), np.log1p(zeroed(query).X))


def shares(values):
    """Mean share that each gene has of the counts of a sample; an empty sample has none."""
    full = values[values.sum(axis=1) > 0].astype(float)
    return (full / full.sum(axis=1, keepdims=True)).mean(axis=0)


def log_normalised(values, total=1e4):
    totals = values.astype(float).sum(axis=1, keepdims=True)
    return np.log1p(total * values / np.where(totals == 0, 1, totals))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("convert", KINDS)
def test_pca_gives_missing_genes_their_mean_in_training(convert, normalize):
    train, query = make(), make(1, convert=convert)
    encoder = PCAEncoder(n_components=5, normalize=normalize).fit(train)
    present = np.isin(GENES, KEPT)
    values = zeroed(query).X
    if normalize:  # the genes that are there are scaled to what they were of 10,000 counts
        values = log_normalised(values, 1e4 * shares(train.X)[present].sum())
    reference = PCA(5).fit(log_normalised(train.X) if normalize else train.X)
    filled = np.where(present, values, reference.mean_)
    out = encoder.encode(lacking(query))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, reference.transform(filled), rtol=1e-3, atol=1e-3)
    features = encoder.features(lacking(query))
    np.testing.assert_allclose(features, filled, rtol=1e-4)
    built = network(**encoder.architecture)
    built.load_state_dict(encoder.weights())
    with torch.no_grad():
        np.testing.assert_allclose(built(torch.as_tensor(features)).numpy(), out, rtol=1e-3, atol=1e-3)


def test_missing_genes_do_not_move_the_mean_of_pca():
    train = make()
    encoder = PCAEncoder(n_components=5, normalize=False).fit(train)
    np.testing.assert_allclose(encoder.encode(lacking(train)).mean(axis=0), 0, atol=1e-4)
    train = make(n=400)[np.arange(400) != 4].copy()
    encoder = PCAEncoder(n_components=5).fit(train)
    shift = np.abs(encoder.encode(lacking(train)).mean(axis=0)).max()
    encoder.share_ = np.full(20, 1 / len(KEPT))  # as if the genes that are there had all the counts
    assert shift < 0.2 * np.abs(encoder.encode(lacking(train)).mean(axis=0)).max()


def test_refuses_data_with_too_few_of_the_genes(scvi_encoder, refuses):
    query, few = make()[:, KEPT].copy(), make()[:, :15].copy()
    pca, mlp = PCAEncoder(n_components=3, min_overlap=0.81).fit(make()), MLPEncoder(min_overlap=0.81).fit(make())
    for call in (pca.encode, pca.features, mlp.features):
        with refuses(errors.TooFew, number=16, needed=17):
            call(query)
    for call in (scvi_encoder.encode, scvi_encoder.features, lambda x: scvi_encoder.denoise(x, rng=0)):
        with refuses(errors.TooFew, number=15, needed=16):
            call(few)
    ten = MLPEncoder(min_overlap=0.7).fit(make()[:, :10].copy())  # 0.7 * 10 is a little more than 7
    assert ten.features(make()[:, :7].copy()).shape == (60, 10)


@pytest.mark.parametrize("prefix", ["ENSG", "ENSMUSG"])
def test_symbols_and_ensembl_ids_are_told_apart(prefix):
    ids = [f"{prefix}{i:011d}.2" for i in range(20)]
    hints = []
    for learned, query in ((GENES, ids), (ids, GENES), (ids, [name[:-2] for name in ids])):
        with pytest.raises(errors.TooFew) as caught:
            PCAEncoder(n_components=3).fit(make(genes=learned)).encode(make(genes=query))
        assert caught.value.number == 0
        hints.append(caught.value.way_out.split("; ", 1)[1])
    assert len(set(hints)) == 3
    assert ids[0] in hints[2] and ids[0][:-2] in hints[2]


@pytest.mark.parametrize("share", [0, -0.5, 1.01, np.nan])
def test_refuses_a_share_out_of_range(share):
    for kind in (MLPEncoder, PCAEncoder, SCVIEncoder, lambda **options: ScGPTEncoder("folder", **options)):
        with pytest.raises(errors.BadValue) as caught:
            kind(min_overlap=share).fit(make())
        assert caught.value.name == "min_overlap"
