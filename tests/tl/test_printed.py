"""Printed in a window of 80 characters, a table shows what it is for; pandas leaves out its middle columns."""

from __future__ import annotations

import pandas as pd
import pytest

import semiclip as scl

KEYS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
REPS = ["X_pca", "Expression (PCA)"]
SCORED = ["representation", "key", "value"]


@pytest.fixture(scope="module")
def rna(small_study):
    rna = small_study.knockouts["rna"].copy()
    rna.obsm["Expression (PCA)"] = rna.obsm["X_pca"][:, :6]
    return rna


def compare(rna, known):
    runs = [
        scl.tl.recall(rna, use_rep=REPS, relationships=known, n_permutations=0, **KEYS).assign(seed=i) for i in "abcde"
    ]
    runs = pd.concat(runs)
    return scl.tl.compare(runs[runs["key"] == "pathways"], base="X_pca")


def null_overlap(rna, known):
    options = {"n_permutations": 5, "progress_bar": False, "relationships": known}
    return scl.tl.null_overlap(rna, use_rep="X_pca", references=REPS[1:], **options, **KEYS)


def enrich(rna, known):
    sets = scl.tl.relationship_sets(rna, use_rep=REPS, relationships=known, **KEYS)
    genes = {"a pathway of twenty letters": [f"gene_{i:02d}" for i in range(0, 24, 2)]}
    return scl.tl.enrich(sets, inside="X_pca", gene_sets=genes, background="map")


def retrieve(rna, known):
    image = rna.copy()
    image.var_names = "image " + image.var_names
    other = scl._mudata.make_mudata(rna=rna, image=image)
    options = {"student_rep": "X_pca", "teacher_rep": "X_pca", "pair_on": "perturbation"}
    return scl.tl.cross_modal_retrieval(other, **options, **KEYS)


def preserve(rna, known):
    return scl.tl.preservation(rna, use_rep=REPS, max_epochs=1, progress_bar=False, device="cpu", **KEYS)


def nearest(rna, known):
    options = {"references": REPS[1:], "n_permutations": 5, "progress_bar": False, "relationships": known}
    return scl.tl.nearest(rna, use_rep="X_pca", **options, **KEYS)


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda rna, known: scl.tl.recall(rna, use_rep=REPS, relationships=known, baselines=["permuted"], **KEYS),
         [*SCORED, "ci_high"]),
        (lambda rna, known: scl.tl.similarity(rna, use_rep=REPS, relationships=known, **KEYS),
         ["representation", "low", "high", "all", "annotated"]),
        (null_overlap, ["reference", "overlap", "p_value"]),
        (nearest, ["perturbation", "neighbour", "cosine", "p_value", "p_adjusted"]),
        (enrich, ["gene_set", "n_overlap", "p_value", "p_adjusted"]),
        (compare, ["representation", "difference", "p_value"]),
        (retrieve, SCORED),
        (preserve, ["metric", "representation", "value"]),
        (lambda rna, known: scl.tl.replicate_retrieval(rna, use_rep=REPS, **KEYS), SCORED),
        (lambda rna, known: scl.tl.knn_accuracy(rna, use_rep=REPS, label_key="pathway", **KEYS), SCORED),
        (lambda rna, known: scl.tl.consistency(rna, use_rep=REPS, n_permutations=5, **KEYS), SCORED),
        (lambda rna, known: scl.tl.magnitude(rna, use_rep=REPS, n_permutations=5, progress_bar=False, **KEYS), SCORED),
    ],
    ids=["recall", "similarity", "null_overlap", "nearest", "enrich", "compare", "cross_modal", "preservation",
         "replicates", "knn", "consistency", "magnitude"],
)  # fmt: skip
def test_a_printed_table_shows_its_main_numbers(rna, small_study, make, shown):
    table = make(rna, small_study.relationships)
    with pd.option_context("display.width", 80, "display.max_columns", 0, "display.max_rows", 8):
        header = repr(table).splitlines()[0]
    assert [name for name in shown if name not in header.split()] == [], header
