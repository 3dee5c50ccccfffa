"""Attributions against a simulation whose pathways are known."""

import numpy as np
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import roc_auc_score

import semiclip as scl
from semiclip import errors
from semiclip.tl import gene_attribution


@pytest.fixture(scope="module", params=[0, 1])
def known(request, encode, train):
    """A study with clear pathways, its encoder and its model."""
    sizes = {"n_compounds": 120, "n_knockouts": 40, "n_pathways": 8, "n_genes": 160}
    study = scl.datasets.simulate(**sizes, difficulty="easy", rng=request.param)
    encoder = encode(study, n_components=40)
    return study.knockouts["rna"], encoder, train(study, "shared", max_epochs=None)


def test_the_genes_of_the_pathway_stand_out_more_than_in_expression(known, center):
    """Of all genes of the pathway, and of the half on which the pathway acts most, against all genes outside."""
    rna, encoder, model = known
    auc = {}
    for rep, taught in (("X_semiclip", model), ("X_genes", None)):
        scores = []
        for i in range(16):
            loading = rna.varm["pathways"][f"pathway_{i % 8}"].abs()
            table = gene_attribution(rna, use_rep=rep, encoder=encoder, model=taught, perturbation=f"gene_{i:03}",
                                     **center)  # fmt: skip
            size = table.set_index("gene")["attribution"].abs().reindex(loading.index)
            strong = (loading == 0) | (loading > loading[loading > 0].median())
            scores.append([roc_auc_score(loading > 0, size), roc_auc_score(loading[strong] > 0, size[strong])])
        auc[rep] = np.mean(scores, axis=0)
    assert (auc["X_semiclip"] > [0.8, 0.9]).all(), auc
    assert (auc["X_semiclip"] > auc["X_genes"] + 0.1).all(), auc


def test_top_genes_are_enriched(known, center):
    rna, encoder, model = known
    table = gene_attribution(rna, use_rep="X_semiclip", encoder=encoder, model=model, pair=("gene_003", "gene_011"),
                             rng=0, **{**center, "n_permutations": 100})  # fmt: skip
    table["top"] = table["rank"] <= 10
    pathways = {name: list(column.index[column != 0]) for name, column in rna.varm["pathways"].items()}
    found = scl.tl.enrich(table, inside="top", gene_sets=pathways)
    assert found["gene_set"].iloc[0] == "pathway_3"
    assert found["p_adjusted"].iloc[0] < 0.01
    top, genes = set(table["gene"][:10]), set(table["gene"])
    for row in found.itertuples():
        members = set(pathways[row.gene_set])
        x = len(members & top)
        counts = [[x, 10 - x], [len(members) - x, len(genes) - 10 - len(members) + x]]
        assert row.p_value == pytest.approx(fisher_exact(counts, alternative="greater").pvalue)
        assert (row.n_overlap, row.n_region, row.n_background) == (x, 10, len(genes))
        assert row.genes == ";".join(sorted(members & top))
    with pytest.raises(errors.MissingColumn):
        scl.tl.enrich(table, inside="best", gene_sets=pathways)
