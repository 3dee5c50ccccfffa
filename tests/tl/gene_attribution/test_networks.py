"""Attributions of networks against their definition, one step at a time."""

import numpy as np
import pytest
import torch

import semiclip as scl
from semiclip.correction import fit_correction
from semiclip.tl import gene_attribution


def integrate_by_hand(rna, encoder, embed, name, n_steps=400):
    """Sum gradients over all genes and many small steps, a row at a time, by torch's own differentiation."""
    control, batch = (rna.obs["perturbation"] == "control").to_numpy(), rna.obs["batch"].cat.codes.to_numpy(int)
    x = torch.as_tensor(encoder.features(rna), dtype=torch.float64)
    rows = np.flatnonzero(rna.obs["perturbation"] == name)
    z = rna.obsm["X_semiclip"].astype(np.float64)
    corrected = fit_correction(z, batch, control, method="center")
    mean = corrected(z, batch, rows).mean(axis=0)
    direction = torch.as_tensor(mean / np.linalg.norm(mean))
    total = np.zeros(x.shape[1])
    for row in rows:
        start = x[control & (batch == batch[row])].mean(dim=0)
        steps = (torch.arange(n_steps, dtype=torch.float64)[:, None] + 0.5) / n_steps
        line = (start + steps * (x[row] - start)).requires_grad_()
        (slope,) = torch.autograd.grad((embed(line, batch[row]) @ direction).sum(), line)
        total += ((x[row] - start) * slope.mean(dim=0)).numpy() / len(rows)
    return total


def networks_by_hand(rna, encoder, model):
    """Return the whole way from expression to the representation in torch, in double precision."""
    from copy import deepcopy

    control, batch = (rna.obs["perturbation"] == "control").to_numpy(), rna.obs["batch"].cat.codes.to_numpy(int)
    spec = model._specs["student"]
    student = fit_correction(rna.obsm[model.representations["student_rep"]].astype(np.float64), batch, control,
                             method=spec.method, profile=spec.profile, ridge=spec.ridge)  # fmt: skip
    adapter = deepcopy(model.module.adapter).double()
    trained = model.module.encoder
    if trained is None:
        trained = scl.encoders.build(encoder.architecture)
        trained.load_state_dict(encoder.weights())
    trained = deepcopy(trained).double().eval()

    def embed(rows, code):
        shift, weight = (None if part is None else torch.as_tensor(part) for part in student.chains[code])
        if model.module.encoder is None:
            rows = trained(rows)
        rows = rows if shift is None else (rows - shift) @ weight
        return adapter(rows if model.module.encoder is None else trained(rows))

    return embed


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pca", {}),
        ("scvi", {"max_epochs": 5}),
        ("pca", {"model_kwargs": {"student_correction": "tvn"}}),
        ("pca", {"model_kwargs": {"student_correction": None}, "pea": False}),
    ],
    ids=["pca", "scvi", "trained behind a correction", "trained"],
)
def test_networks_are_integrated(options, name, study, encode, train, center):
    pytest.importorskip("captum")
    encoder = encode(study, name)
    if "model_kwargs" in options:
        for adata in (study.mdata["rna"], study.knockouts["rna"]):
            scl.pp.expression(adata, encoder=encoder)
        options = {
            **options,
            "student_rep": "X_expression",
            "model_kwargs": {"encoder": encoder, **options["model_kwargs"]},
        }
    model = train(study, "whole", **options)
    rna = study.knockouts["rna"]
    embed = networks_by_hand(rna, encoder, model)
    expected = integrate_by_hand(rna, encoder, embed, "gene_05")
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_05", **center}
    table = gene_attribution(rna, n_steps=200, **explain)
    found = table.set_index("gene")["attribution"].reindex(encoder.genes_)
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    whole = table.attrs["value"] - table.attrs["baseline"]
    assert table["attribution"].sum() == pytest.approx(whole, rel=5e-3)
    # more steps come nearer
    few = gene_attribution(rna, n_steps=4, **explain)
    for name, told in table.attrs.items():
        assert few.attrs[name] == (pytest.approx(told) if isinstance(told, float) else told)
    assert abs(few["attribution"].sum() - whole) >= abs(table["attribution"].sum() - whole) - 1e-9
