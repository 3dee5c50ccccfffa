from __future__ import annotations

import re

import numpy as np
import pandas as pd

import semiclip as scl
from semiclip._report import _report
from semiclip.pl._style import OKABE_ITO

CORRECTION = {"method": "tvn", "profile": "clean", "ridge": 0.0, "fallback": "raise"}


def test_one_representation_one_database_no_controls_no_correction(tmp_path, adata, read, study, known):
    one = adata[adata.obs["gene"] != "control"]
    known = pd.DataFrame({"gene_a": study.genes[::2], "gene_b": study.genes[1::2]})
    how = {"use_rep": "planted", "perturbation_key": "gene", "control": None, "method": None, "relationships": known}
    path = scl.report(one, tmp_path / "one.html", **how, gene_sets=study.sets, title="A <title>", **study.quick)
    text = path.read_text(encoding="utf-8")
    tree, said = read(text), " ".join(read(text).text)
    assert "<title>A &lt;title&gt;</title>" in text
    for words in (
        "With one representation there is nothing to compare",
        "Pairs recalled by planted",
        "It recalls ",
        "none; all observations are the reference of the correction",
        "none named; all observations are one batch",
        "taken as it is, without a correction",
        "against the genes in all annotated pairs in the map",
    ):
        assert words in said, words
    assert "On average over the databases" not in said
    _, rows = tree.tables["Recall by database"]
    assert [row[:2] for row in rows] == [["planted", "relationships"]]
    sets = scl.tl.relationship_sets(one, **how)
    assert len(tree.file("recalled_planted.csv")) == sets["planted"].sum()
    enriched = scl.tl.enrich(sets, inside="planted", gene_sets=study.sets, background="map")
    pd.testing.assert_frame_equal(tree.file("enrichment_planted.csv"), enriched, rtol=1e-12, check_dtype=False)
    assert one.is_view


def test_maps_that_recall_nothing(tmp_path, adata, known, read, study):
    for name in ("flat", "level"):
        adata.obsm[name] = np.ones((adata.n_obs, 2))
    how = {"use_rep": ["flat", "level"], "relationships": known, "method": None, **study.keys, **study.quick}
    tree = read(scl.report(adata, tmp_path / "none.html", **how).read_text(encoding="utf-8"))
    said = " ".join(tree.text)
    assert "None of the representations recalls an annotated pair." in said
    assert "Pairs gained by level over flat There is none." in re.sub(r"\s+", " ", said)
    assert "flat shows no evidence" in re.sub(r"\s+", " ", said)
    assert "Not computed. Pass gene_sets=" in said


def test_what_gains_nothing_still_loses(tmp_path, adata, known, read, study):
    adata.obsm["flat"] = np.ones((adata.n_obs, 2))
    how = {"use_rep": ["planted", "flat"], "relationships": known, "method": None, **study.keys}
    path = scl.report(adata, tmp_path / "lost.html", **how, gene_sets=study.sets, **study.quick)
    tree = read(path.read_text(encoding="utf-8"))
    assert len(tree.file("lost_flat.csv")) == scl.tl.relationship_sets(adata, **how)["planted"].sum() > 0
    said = re.sub(r"\s+", " ", " ".join(tree.text))
    assert "Pairs gained by flat over planted There is none." in said
    assert "There is no such pair, so there is nothing to test." in said


def test_more_databases_than_colours(tmp_path, adata, study, known):
    names = [f"base {i}" for i in range(len(OKABE_ITO) + 2)]
    known = pd.DataFrame({"database": (names * 3)[:20], "gene_a": study.genes[::2], "gene_b": study.genes[1::2]})
    path = scl.report(
        adata, tmp_path / "many.html", use_rep="planted", relationships=known, **study.keys, **study.quick
    )
    assert "Pairs recalled by planted, by database" in path.read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_page_and_nothing_is_changed(tmp_path, adata, known, study):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before, settings, figures = adata.copy(), mpl.rcParams.copy(), plt.get_fignums()
    how = {"use_rep": ["planted", "noise"], "relationships": known, **study.keys, **study.quick}
    with mpl.rc_context({"font.size": 30, "figure.facecolor": "black"}):
        first = scl.report(adata, tmp_path / "first.html", rng=np.random.default_rng(3), **how)
    second = scl.report(adata, tmp_path / "second.html", rng=np.random.default_rng(3), **how)
    one, two = (
        re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", path.read_text(encoding="utf-8")) for path in (first, second)
    )
    assert one == two
    assert {**mpl.rcParams, "backend": ""} == {**settings, "backend": ""}  # which pyplot chooses when it is imported
    assert plt.get_fignums() == figures
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert dict(adata.uns) == {}
    for name in study.names:
        np.testing.assert_array_equal(adata.obsm[name], before.obsm[name])
    pd.testing.assert_frame_equal(known, known)


def test_the_default_annotations_are_those_of_the_datasets(tmp_path, adata, known, monkeypatch, study):
    monkeypatch.setattr(scl.datasets, "relationships", lambda: known)
    (tmp_path / "sets.gmt").write_text("mine\tx\t" + "\t".join(study.genes[:10]) + "\n")
    asked = _report._asked(
        adata, "planted", None, {**study.keys, **CORRECTION}, None, tmp_path / "sets.gmt", 100, np.random.default_rng(0)
    )
    assert asked.how["relationships"] is known
    assert asked.sources == {
        "relationships": "those of scl.datasets.relationships()",
        "gene_sets": "sets.gmt, 1 set",
    }
    assert asked.gene_sets == {"mine": study.genes[:10]}
    again = _report._asked(
        adata, "planted", None, {**study.keys, **CORRECTION}, None, None, 100, np.random.default_rng(0)
    )
    assert again.seed == asked.seed
