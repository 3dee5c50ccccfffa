"""P-values of attributions against exchanges by hand."""

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import false_discovery_control

import semiclip as scl
from semiclip.metrics._gene_weights import count_exchanged
from semiclip.tl import gene_attribution


def test_p_values_count_exchanges():
    rng = np.random.default_rng(1)
    changes, weights = rng.normal(size=(2, 3, 8))
    weights[0, 3] = 0
    measured = (changes * weights).sum(axis=0)
    generator, counts = np.random.default_rng(4), np.zeros(8)
    for _ in range(50):
        order = generator.permutation(8)
        for gene in range(8):
            size = abs(sum(changes[part, gene] * weights[part, order[gene]] for part in range(3)))
            counts += size >= np.abs(measured) * (1 - 1e-9)
    expected = (1 + counts) / (1 + 50 * 8)
    np.testing.assert_allclose(count_exchanged(changes, weights, 50, 4), expected)
    # those without a change or a weight, whatever the other, are left out of the test and of the exchanges
    still, unread = np.zeros((2, 3, 5)), rng.normal(size=(2, 3, 5))
    padded = [
        np.concatenate(parts, axis=1) for parts in ((still[0], changes, unread[0]), (unread[1], weights, still[1]))
    ]
    found = count_exchanged(*padded, 50, 4)
    np.testing.assert_allclose(found[5:13], expected)
    assert np.isnan(found[[*range(5), *range(13, 18)]]).all()
    assert np.isnan(count_exchanged(still[0], unread[0], 50, 4)).all()


def test_genes_that_nobody_expresses_change_no_p_value(make, center):
    rna, *_ = make()
    explain = {"use_rep": "X_genes", "perturbation": "gene_02", **center, "n_permutations": 200, "rng": 0}
    tables = []
    for n_silent in (0, 3 * rna.n_vars):
        silent = sparse.csr_matrix((rna.n_obs, n_silent), dtype=np.float32)
        names = [*rna.var_names, *(f"silent{i}" for i in range(n_silent))]
        padded = anndata.AnnData(sparse.hstack([rna.X, silent], format="csr"), rna.obs, pd.DataFrame(index=names))
        encoder = scl.pp.encode(padded, encoder="pca", n_components=8, rng=0, key_added="X_genes")
        tables.append(gene_attribution(padded, encoder=encoder, **explain).set_index("gene"))
    alone, beside = tables
    assert (alone["p_value"].notna() & alone["p_adjusted"].notna()).all()
    assert beside.loc["silent0", ["direction", "attribution"]].tolist() == ["none", 0]
    assert beside[["p_value", "p_adjusted"]].isna().all(axis=1).sum() == n_silent
    pd.testing.assert_frame_equal(beside.loc[alone.index], alone, atol=1e-3)  # a component is found up to rounding


def test_p_values_come_with_the_table(make, columns):
    rna, encoder, model = make()
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, **columns}
    table = gene_attribution(rna, pair=("gene_00", "gene_06"), n_permutations=200, rng=3, **explain)
    assert list(table) == ["gene", "attribution", "direction", "rank", "p_value", "p_adjusted"]
    np.testing.assert_allclose(table["p_adjusted"], false_discovery_control(table["p_value"]))
    assert table["p_value"].is_monotonic_increasing
    again = gene_attribution(rna, pair=("gene_00", "gene_06"), n_permutations=200, rng=3, **explain)
    pd.testing.assert_frame_equal(table, again)
