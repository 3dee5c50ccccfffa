"""What cannot be explained is refused."""

import sys

import numpy as np
import pandas as pd

import semiclip as scl
from semiclip import errors
from semiclip.tl import gene_attribution


def test_refusals(make, refuses, monkeypatch, center):
    rna, encoder, model = make()
    explain = {"use_rep": "X_semiclip", "encoder": encoder, "model": model, "perturbation": "gene_02", **center}
    with refuses(errors.NotGiven, name="perturbation"):
        gene_attribution(rna, **{**explain, "perturbation": None})
    with refuses(errors.Conflict, first="perturbation", second="pair"):
        gene_attribution(rna, pair=("gene_01", "gene_03"), **explain)
    for pair in (("gene_01", "gene_01"), ("gene_01",), "gene_01"):
        with refuses(errors.BadValue, name="pair", value=pair):
            gene_attribution(rna, **{**explain, "perturbation": None, "pair": pair})
    with refuses(errors.BadValue, name="pair", value=5):
        gene_attribution(rna, **{**explain, "perturbation": None, "pair": 5})
    for several in (["gene_00"], ("gene_00", "gene_01"), pd.NaT):
        with refuses(errors.BadValue, name="perturbation", value=several, needed="one label; two as pair="):
            gene_attribution(rna, **{**explain, "perturbation": several})
    with refuses(errors.BadValue, name="pair"):
        gene_attribution(rna, **{**explain, "perturbation": None, "pair": (["gene_00"], ["gene_01"])})
    with refuses(errors.UnknownChoice, name="perturbation", value="gene_2"):
        gene_attribution(rna, **{**explain, "perturbation": "gene_2"})
    with refuses(errors.UnknownChoice, name="pair", value="control"):
        gene_attribution(rna, **{**explain, "perturbation": None, "pair": ("gene_02", "control")})
    with refuses(errors.WrongType, name="encoder", got=str):
        gene_attribution(rna, **{**explain, "encoder": "pca"})
    with refuses(errors.WrongType, name="model", got=str):
        gene_attribution(rna, **{**explain, "model": "semiclip"})
    with refuses(errors.Mismatch, what="the width of 'X_semiclip'"):
        gene_attribution(rna, **{**explain, "model": None})
    other = rna.copy()
    other.obsm["X_semiclip"] = other.obsm["X_semiclip"][::-1].copy()
    with refuses(errors.Mismatch, got="something else"):
        gene_attribution(other, **explain)
    for label in ("control", "gene_02"):  # in one row alone
        other = rna.copy()
        row = rna.obs_names[rna.obs["perturbation"] == label][0]
        other.obsm["X_semiclip"][rna.obs_names == row] += 5
        with refuses(errors.Mismatch, what=f"'X_semiclip' of {row}", got="something else"):
            gene_attribution(other, **explain)
    with refuses(errors.Mismatch, got="something else"):  # embedded with batches, explained without
        gene_attribution(rna, **{**explain, "batch_key": None})
    with refuses(errors.NotFitted):
        gene_attribution(rna, **{**explain, "model": None, "encoder": scl.encoders.MLPEncoder().fit(rna)})
    still = rna.copy()
    still.obsm["X_semiclip"] = np.ones_like(still.obsm["X_semiclip"])
    with refuses(errors.NoVariation):
        gene_attribution(still, **explain)
    monkeypatch.setitem(sys.modules, "captum", None)
    gene_attribution(rna, **explain)  # a linear way needs no captum
    _, encoder, model = make(recipe="whole")
    scl.tl.embed(other, model, key_added="X_whole")
    with refuses(errors.MissingExtra, package="captum"):
        gene_attribution(other, **{**explain, "use_rep": "X_whole", "encoder": encoder, "model": model})


def test_embeddings_of_z_scores_are_refused_before_they_are_compared(make, refuses, center):
    rna, encoder, model = make()
    rna, counts = rna.copy(), np.log1p(rna.X)
    rna.X = (counts - counts.mean(axis=0)) / counts.std(axis=0).clip(1e-9)
    scl.pp.encode(rna, encoder=encoder, zscores=True, key_added="X_genes")
    scl.tl.embed(rna, model)
    explain = {"encoder": encoder, "perturbation": "gene_02", **center}
    for use_rep, taught in (("X_genes", None), ("X_semiclip", model)):
        with refuses(errors.Refused, problem="obsm['X_genes'] was made of z-scores, of which the encoder tells no map"):
            gene_attribution(rna, use_rep=use_rep, model=taught, **explain)
