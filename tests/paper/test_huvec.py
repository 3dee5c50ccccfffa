"""The study of the paper's own data, on files of their shape: counts, images, z-scores of other genes, single cells."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip.__main__ import main
from semiclip._mudata import make_mudata

if TYPE_CHECKING:
    from pathlib import Path

GENES = [f"G{i:03d}" for i in range(120)]
N_SHARED, N_OTHER = 40, 30  # genes of LINCS that the encoder knows, and those that it does not
METHODS = [f"{name}{arm}" for name in ("KD", "SHAKE", "VICReg", "Semi-Clipped") for arm in ("", " + PEA")]
SETS = {"huvec_ko": (24, True), "lincs": (24, False), "sc_rpe1": (24, False)}  # unseen perturbations, and images


def rename(adata: ad.AnnData, control: str, **columns: str) -> ad.AnnData:
    """Give the columns of a simulation the names of a laboratory, and its controls their label."""
    obs = adata.obs.rename(columns=columns)[list(columns.values())]
    name = columns["perturbation"]
    obs[name] = obs[name].astype(str).replace("control", control).astype("category")
    made = ad.AnnData(adata.X, obs=obs, var=adata.var)
    if "X_image" in adata.obsm:
        made.obsm["X_phenom"] = adata.obsm["X_image"]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The four files, the table of relationships, and the study that the package has, at a smaller size."""
    folder = tmp_path_factory.mktemp("huvec")
    made = scl.datasets.simulate(
        n_compounds=30, n_knockouts=24, n_pathways=6, n_genes=len(GENES), n_image_features=32, n_batches=3,
        n_knockout_batches=3, n_controls=16, rng=0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    compounds = {"perturbation": "compound", "dose": "concentration", "batch": "experiment"}
    knockouts = {"perturbation": "gene", "batch": "experiment"}
    training = {name: rename(made.mdata[name], "DMSO", **compounds) for name in ("rna", "image")}
    unseen = {name: rename(made.knockouts[name], "non-targeting", **knockouts) for name in ("rna", "image")}
    for adata in (training["rna"], unseen["rna"]):
        adata.var_names = GENES
    unseen["image"] = unseen["image"][rng.permutation(unseen["image"].n_obs)[:-7]].copy()
    unseen["image"].obs_names = [f"well {i}" for i in range(unseen["image"].n_obs)]
    make_mudata(**training).write_h5mu(folder / "huvec_cmpd.h5mu")
    make_mudata(**unseen).write_h5mu(folder / "huvec_ko.h5mu")

    scores = scl.datasets.shift_assay(made.knockouts["rna"], assay="l1000", batch_key="batch", rng=0)
    is_kept = rng.permutation(scores.n_vars)[:N_SHARED]
    names = [GENES[int(i)] for i in made.knockouts["rna"].var_names.get_indexer(scores.var_names[is_kept])]
    x = np.hstack([scores.X[:, is_kept], rng.normal(size=(scores.n_obs, N_OTHER))]).astype(np.float32)
    obs = rename(scores, "vector", perturbation="gene", batch="plate").obs
    obs["gene"] = obs["gene"].astype(str)
    obs.loc[(obs["gene"] == "vector") & (rng.random(len(obs)) < 0.5), "gene"] = "untreated"
    obs["cell_type"] = np.where(obs["plate"] == obs["plate"].iloc[0], "A549", "MCF7")
    lincs = ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[*names, *(f"OTHER{i}" for i in range(N_OTHER))]))
    lincs.write_h5ad(folder / "lincs.h5ad")

    cells = rename(made.knockouts["rna"], "non-targeting", perturbation="gene", batch="gem_group")
    cells.var_names = GENES
    cells.X = sparse.csr_matrix(rng.binomial(np.asarray(cells.X).astype(int), 0.3), dtype=np.float32)
    cells.obs["gem_group"] = cells.obs["gem_group"].astype("category").cat.codes.astype(int) + 1
    cells[:, rng.permutation(cells.n_vars)].copy().write_h5ad(folder / "rpe1.h5ad")

    made.relationships.to_csv(folder / "relationships.csv", index=False)
    assert main(["init", str(folder / "huvec.toml"), "--study", "huvec"]) == 0
    text = (folder / "huvec.toml").read_text(encoding="utf-8")
    for old, new in {
        "n_components = 256": "n_components = 16",
        "permutations = 1000": 'permutations = 5\nrelationships = "relationships.csv"',
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "huvec.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_study_of_the_paper_runs_on_files_of_its_shape(folder):
    parts = ["table1", "figure4", "figure6"]
    assert main(["paper", str(folder / "huvec.toml"), "--quick", "--jobs", "1", "--only", *parts]) == 0
    made = folder / "huvec"
    table = pd.read_csv(made / "table1.csv")
    expected = ["name", "dataset", "metric", "mean", "sd", "n_seeds", "base", "difference", "p_value", "p_min"]
    assert list(table) == expected
    rows = [tuple(row) for row in table[["name", "dataset", "metric"]].to_numpy()]
    names = ["Random baseline", "Unimodal baseline", *METHODS]
    assert sorted(rows) == sorted(product(names, SETS, ["preservation", "recall"]))
    # the paper's rates drive VICReg out of the finite numbers here, which the table says
    is_whole = ~table["name"].str.startswith("VICReg")
    assert table.loc[is_whole, "n_seeds"].eq(2).all()
    assert table.loc[~is_whole, "n_seeds"].eq(0).all()
    assert table.loc[~is_whole, ["mean", "sd", "difference"]].isna().all(axis=None)
    assert np.isfinite(table.loc[is_whole, ["mean", "sd"]]).all(axis=None)
    has_pea = table["name"].str.endswith("+ PEA") & is_whole
    assert (table["difference"].notna() == has_pea).all()
    assert table.loc[has_pea, "base"].tolist() == table.loc[has_pea, "name"].str.removesuffix(" + PEA").tolist()
    assert table.loc[has_pea, "p_min"].eq(0.5).all()
    assert table.loc[is_whole & (table["metric"] == "recall"), "mean"].between(0, 100).all()
    for file in ("table1.md", "table1.tex", "paper.html"):
        text = (made / file).read_text(encoding="utf-8")
        assert "VICReg: 2 seed(s) diverged" in text
        assert text.count("39.84 ± 0.23") == (file == "paper.html")  # of the paper, for SC-RPE1


@pytest.mark.slow
def test_venn_diagrams_hold_the_pairs_of_both_modalities(folder):
    figure4 = pd.read_csv(folder / "huvec" / "figure4.csv")
    regions = ["method_recalls", "transcriptomics", "microscopy"]
    assert figure4["method"].unique().tolist() == ["KD", "SHAKE", "Semi-Clipped"]
    by_hand = recall_by_hand(folder)
    for _, part in figure4.groupby("method"):
        assert sorted(map(tuple, part[regions].to_numpy())) == sorted(
            set(product([True, False], repeat=3)) - {(False,) * 3}
        )
        for name in ("transcriptomics", "microscopy"):
            assert part.loc[part[name], "n_pairs"].sum() == by_hand[name]
    figure6 = pd.read_csv(folder / "huvec" / "figure6.csv")
    assert figure6["reference"].unique().tolist() == ["transcriptomics"]  # LINCS has no images
    assert figure6["threshold_low"].tolist() == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25])
    assert figure6["n_permutations"].eq(5).all()
    assert (figure6["overlap"] <= figure6[["n_recalled", "n_reference"]].min(axis=1)).all()
    # the encoder fits in the first run of a seed; every run that uses it tells what it warned of
    page = (folder / "huvec" / "paper.html").read_text(encoding="utf-8")
    assert "80 of the 120 genes that the encoder was fitted on are not in var_names" in page


def recall_by_hand(folder: Path) -> dict[str, int]:
    """Return how many annotated pairs each modality of the knockouts recalls alone."""
    mdata = mudata.read_h5mu(folder / "huvec_ko.h5mu")
    training = mudata.read_h5mu(folder / "huvec_cmpd.h5mu")["rna"]
    encoder = scl.pp.encode(training, encoder="pca", n_components=16, min_overlap=0.05, rng=0)
    scl.pp.encode(mdata["rna"], encoder=encoder)
    relationships = pd.read_csv(folder / "relationships.csv")
    columns = {"perturbation_key": "gene", "control": "non-targeting", "batch_key": "experiment"}
    counts = {}
    for name, side, rep in (("transcriptomics", "rna", "X_pca"), ("microscopy", "image", "X_phenom")):
        table = scl.tl.relationship_sets(mdata[side], use_rep=rep, **columns, relationships=relationships)
        counts[name] = int(table[rep].sum())
    return counts


@pytest.mark.slow
def test_embeddings_are_enough_where_no_encoder_is_asked_for(folder, tmp_path):
    """An unseen .h5ad of an embedding alone, without genes, and a student whose embedding is given."""
    training = mudata.read_h5mu(folder / "huvec_cmpd.h5mu")
    knockouts = mudata.read_h5mu(folder / "huvec_ko.h5mu")["rna"]
    encoder = scl.pp.encode(training["rna"], encoder="pca", n_components=16, rng=0, key_added="X_mine")
    scl.pp.encode(knockouts, encoder=encoder, key_added="X_mine")
    training.write_h5mu(tmp_path / "training.h5mu")
    ad.AnnData(obs=knockouts.obs, obsm={"X_mine": knockouts.obsm["X_mine"]}).write_h5ad(tmp_path / "alone.h5ad")
    text = (folder / "huvec.toml").read_text(encoding="utf-8")
    head, tail = text[: text.index("[unseen.huvec_ko]")], text[text.index("[paper]") :]
    head = head[: head.index("[student]")] + '[student]\nrep = "X_mine"\n' + head[head.index("[teacher]") :]
    unseen = (
        '[unseen.alone]\nfile = "alone.h5ad"\nperturbation = "gene"\ncontrol = "non-targeting"\nbatch = "experiment"\n'
    )
    tail = tail.replace("relationships.csv", str(folder / "relationships.csv"))
    text = head.replace("huvec_cmpd.h5mu", "training.h5mu") + unseen + tail
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    parts = ["table1", "figure1", "figure2b", "figure4"]
    assert main(["paper", str(tmp_path / "study.toml"), "--quick", "--jobs", "1", "--only", *parts]) == 0
    table = pd.read_csv(tmp_path / "huvec" / "table1.csv")
    assert set(table["metric"]) == {"recall"}  # nothing to decode without expression
    assert len(table) == 2 + len(METHODS)
