"""Attributions of a linear way against their definition, one gene at a time."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip.correction import fit_correction
from semiclip.tl import _gene_attribution as module
from semiclip.tl import gene_attribution


def map_by_hand(rna, encoder, model):
    """Return functions from expression and batches to the representation, in double precision."""
    control, batch = (rna.obs["perturbation"] == "control").to_numpy(), rna.obs["batch"].cat.codes.to_numpy(int)
    pca = encoder.model_
    seen = np.asarray(rna.obsm["X_genes"], dtype=np.float64)
    student = fit_correction(seen, batch, control, profile="batch", ridge=0.5)
    layers = [(part.weight.detach().double().numpy(), part.bias.detach().double().numpy())
              for part in model.module.adapter if hasattr(part, "weight")]  # fmt: skip

    def embed(expression, batch):
        rows = (expression - pca.mean_) @ pca.components_.T
        rows = student(rows, batch) * model.module.input_scale
        for i, (weight, bias) in enumerate(layers):
            rows = rows @ weight.T + bias
            rows = np.maximum(rows, 0) if i < len(layers) - 1 else rows
        return model.part_scales_[0] * rows

    return embed, control, batch


@pytest.mark.parametrize("method", ["center", "tvn"])
@pytest.mark.parametrize("names", [["gene_03"], ["gene_03", "gene_09"]])
def test_a_linear_way_is_exact_one_gene_at_a_time(make, names, method, center):
    """Where all is linear, a gene adds what is lost when it alone is set back to the mean of the controls."""
    rna, encoder, model = make()
    embed, control, batch = map_by_hand(rna, encoder, model)
    x = encoder.features(rna).astype(np.float64)
    z = embed(x, batch)
    np.testing.assert_allclose(z, rna.obsm["X_semiclip"], atol=1e-4 * np.abs(z).max())
    corrected = fit_correction(z, batch, control, method=method)
    rows_of = [np.flatnonzero(rna.obs["perturbation"] == name) for name in names]
    means = [corrected(z, batch, rows).mean(axis=0) for rows in rows_of]
    lengths = [np.linalg.norm(mean) for mean in means]
    if len(names) == 1:
        onto, value = [means[0] / lengths[0]], lengths[0]
    else:
        onto = [mean / (2 * lengths[0] * lengths[1]) for mean in means[::-1]]
        value = means[0] @ means[1] / lengths[0] / lengths[1]
    expected, changes = np.zeros(x.shape[1]), []
    for rows, direction in zip(rows_of, onto, strict=True):
        baseline = np.array([x[control & (batch == code)].mean(axis=0) for code in batch[rows]])
        changes.append((x[rows] - baseline).mean(axis=0))
        for gene in range(x.shape[1]):
            without = x[rows].copy()
            without[:, gene] = baseline[:, gene]
            lost = corrected(embed(x[rows], batch[rows]) - embed(without, batch[rows]), batch[rows])
            # of a difference the shift of the correction does not count
            lost = lost - corrected(np.zeros_like(z[rows]), batch[rows])
            expected[gene] += (lost @ direction).mean()
    chosen = {"perturbation": names[0]} if len(names) == 1 else {"pair": names}
    table = gene_attribution(
        rna, use_rep="X_semiclip", encoder=encoder, model=model, **chosen, **{**center, "method": method}
    )
    found = table.set_index("gene")["attribution"].reindex(encoder.genes_)
    # weights of the encoder and the stored embedding are in single precision
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert table.attrs["value"] == pytest.approx(value, rel=1e-5)
    assert table.attrs["baseline"] == pytest.approx(0, abs=1e-5 * value)
    assert table["attribution"].sum() == pytest.approx(table.attrs["value"] - table.attrs["baseline"], rel=1e-9)
    explained = {"use_rep": "X_semiclip", "perturbations": list(names), "reference": "controls"}
    assert explained.items() <= table.attrs.items()
    assert list(table["rank"]) == list(range(1, len(table) + 1))
    assert table["attribution"].abs().is_monotonic_decreasing
    words = [np.select([change > 0, change < 0], ["up", "down"], "none") for change in changes]
    direction = np.where(words[0] == words[-1], words[0], "mixed")
    assert list(table.set_index("gene")["direction"].reindex(encoder.genes_)) == list(direction)


def test_values_are_those_of_aggregate_and_nearest(make, columns):
    rna, encoder, model = make()
    for rep, taught in (("X_semiclip", model), ("X_genes", None)):
        options = {"use_rep": rep, "encoder": encoder, "model": taught, **columns, "n_permutations": 0}
        genes = scl.tl.aggregate(rna, use_rep=rep, **columns)
        near = scl.tl.nearest(rna, use_rep=rep, query="gene_00", n_neighbors=1, n_permutations=0,
                              relationships=pd.DataFrame(columns=["gene_a", "gene_b"]), **columns)  # fmt: skip
        table = gene_attribution(rna, perturbation="gene_00", **options)
        assert table["attribution"].sum() == pytest.approx(genes.obs[f"effect_size_{rep}"]["gene_00"], rel=1e-5)
        neighbour, cosine = near.loc[0, ["neighbour", "cosine"]]
        one, other = (
            gene_attribution(rna, pair=pair, **options) for pair in (("gene_00", neighbour), (neighbour, "gene_00"))
        )
        assert one["attribution"].sum() == pytest.approx(cosine, abs=1e-5)
        pd.testing.assert_frame_equal(one, other)


def test_the_student_beside_the_distilled_part_and_no_controls(study, encode, train):
    encoder = encode(study)
    treated = {"perturbation_key": "perturbation", "control": None, "batch_key": "batch"}
    model = train(study, "shared", **treated, model_kwargs={"distilled_weight": 0.5})
    rna = study.knockouts["rna"]
    assert rna.obsm["X_semiclip"].shape[1] == model.module.n_output + 12
    genes = scl.tl.aggregate(rna, use_rep="X_semiclip", method="center", **treated)
    table = gene_attribution(rna, use_rep="X_semiclip", encoder=encoder, model=model, perturbation="gene_05",
                             method="center", n_permutations=0, **treated)  # fmt: skip
    assert table.attrs["reference"] == "all rows"
    assert table["attribution"].sum() == pytest.approx(genes.obs["effect_size_X_semiclip"]["gene_05"], rel=1e-4)


def test_blocks_storage_and_order_of_genes_change_nothing(make, monkeypatch, tmp_path, center):
    rna, encoder, model = make()
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_02", **center}
    before, weights = rna.copy(), {name: value.clone() for name, value in model.module.state_dict().items()}
    table = gene_attribution(rna, **explain)
    assert (rna.X == before.X).all()
    assert {*rna.obsm} == {*before.obsm}
    assert {*rna.uns["semiclip"]} == {*before.uns["semiclip"]}
    assert all((value == weights[name]).all() for name, value in model.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.module.adapter.parameters())
    turned = rna[:, ::-1].copy()
    turned.X = sparse.csr_matrix(turned.X)
    rna.write(tmp_path / "rna.h5ad")
    backed = anndata.read_h5ad(tmp_path / "rna.h5ad", backed="r")
    for data in (turned, backed):
        pd.testing.assert_frame_equal(gene_attribution(data, **explain), table)
    monkeypatch.setattr(module, "VALUES", 1)
    pd.testing.assert_frame_equal(gene_attribution(rna, **explain), table)
