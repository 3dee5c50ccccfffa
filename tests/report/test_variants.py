import re

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import semiclip as scl


def test_one_representation_one_database_no_controls_no_correction(write, adata, study):
    one = adata[adata.obs["gene"] != "control"]
    annotated = pd.DataFrame({"gene_a": study.genes[::2], "gene_b": study.genes[1::2]})
    keys = {"use_rep": "planted", "perturbation_key": "gene", "control": None, "method": None}
    keys["relationships"] = annotated
    tree = write(one, **keys, gene_sets=study.sets, title="A <title> & 'more'")
    for words in (
        "A <title> & 'more'",
        "With one representation there is nothing to compare",
        "Pairs recalled by planted",
        "It recalls ",
        "none; all observations are the reference of the correction",
        "none named; all observations are one batch",
        "taken as it is, without a correction",
        "against the genes in all annotated pairs in the map",
    ):
        assert words in tree.said, words
    assert "On average over the databases" not in tree.said
    _, rows = tree.tables["Recall by database"]
    assert [row[:2] for row in rows] == [["planted", "relationships"]]
    sets = scl.tl.relationship_sets(one, **keys)
    assert len(tree.file("recalled_planted.csv")) == sets["planted"].sum()
    enriched = scl.tl.enrich(sets, inside="planted", gene_sets=study.sets, background="map")
    pd.testing.assert_frame_equal(tree.file("enrichment_planted.csv"), enriched, rtol=1e-12, check_dtype=False)
    assert one.is_view


def test_maps_that_recall_nothing_and_what_gains_nothing_still_loses(write, adata, annotated, study):
    for name in ("flat", "level"):
        adata.obsm[name] = np.ones((adata.n_obs, 2))
    said = write(adata, use_rep=["flat", "level"], relationships=annotated, method=None, **study.keys).said
    assert "None of the representations recalls an annotated pair." in said
    assert "Pairs gained by level over flat There is none." in said
    assert "flat shows no evidence" in said
    assert "Not computed. Pass gene_sets=" in said
    keys = {"use_rep": ["planted", "flat"], "relationships": annotated, "method": None, **study.keys}
    tree = write(adata, "second.html", **keys, gene_sets=study.sets)
    assert len(tree.file("lost_flat.csv")) == scl.tl.relationship_sets(adata, **keys)["planted"].sum() > 0
    assert "Pairs gained by flat over planted There is none." in tree.said
    assert "There is no such pair, so there is nothing to test." in tree.said


def test_more_databases_than_colours(write, adata, study):
    names = [f"base {i}" for i in range(9)]
    annotated = pd.DataFrame({"database": (names * 3)[:20], "gene_a": study.genes[::2], "gene_b": study.genes[1::2]})
    tree = write(adata, use_rep="planted", relationships=annotated, **study.keys)
    assert any("Pairs recalled by planted" in part["alt"] for part in tree.all("img"))
    assert "Pairs recalled by planted, by database" in tree.said


def test_more_representations_than_colours(write, adata, annotated, study):
    names = [f"X_{i}_with_a_name_that_is_longer_than_most_names_of_embeddings" for i in range(9)]
    adata = adata.copy()
    for i, name in enumerate(names):
        adata.obsm[name] = adata.obsm["planted"] + np.random.default_rng(i).normal(0, i, adata.obsm["planted"].shape)
    tree = write(adata, use_rep=names, relationships=annotated, **study.keys)
    assert all(name in tree.said for name in names)
    images = tree.all("img")
    heights = [float(part["height"]) for part in images if part["alt"].startswith(("Bars of", "Histograms", "Overlap"))]
    assert min(heights) > 96 * 4, "pictures grow with what they hold"


def test_the_same_seed_gives_the_same_page_and_nothing_is_changed(tmp_path, write, adata, annotated, study):
    before, settings, figures = adata.copy(), mpl.rcParams.copy(), plt.get_fignums()
    keys = {"use_rep": ["planted", "noise"], "relationships": annotated, **study.keys}
    with mpl.rc_context({"font.size": 30, "figure.facecolor": "black"}):
        write(adata, "first.html", **keys, rng=np.random.default_rng(3))
    write(adata, "second.html", **keys, rng=np.random.default_rng(3))
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("first.html", "second.html")]
    one, two = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text) for text in texts)
    assert one == two
    assert {**mpl.rcParams, "backend": ""} == {**settings, "backend": ""}  # which pyplot chooses when it is imported
    assert plt.get_fignums() == figures
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert dict(adata.uns) == {}
    for name in study.names:
        np.testing.assert_array_equal(adata.obsm[name], before.obsm[name])


def test_the_default_annotations_are_those_of_the_datasets(write, tmp_path, adata, annotated, monkeypatch, study):
    monkeypatch.setattr(scl.datasets, "relationships", lambda: annotated)
    (tmp_path / "sets.gmt").write_text("mine\tx\t" + "\t".join(study.genes[:10]) + "\n")
    tree = write(adata, use_rep="planted", gene_sets=tmp_path / "sets.gmt", **study.keys)
    assert "relationships those of scl.datasets.relationships() gene_sets sets.gmt, 1 set" in tree.said
    assert len(tree.file("enrichment_planted.csv")) == 1
    explicit = write(adata, "given.html", use_rep="planted", relationships=annotated, **study.keys)
    pd.testing.assert_frame_equal(explicit.file("recall.csv"), tree.file("recall.csv"))
