import re
from base64 import b64decode

import pandas as pd

import semiclip as scl

THRESHOLDS = [(0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75)]


def share(value):
    return "–" if value != value else f"{100 * value:.1f}%"


def test_the_page_is_well_formed_and_complete(tree):
    for tag in ("h1", "main", "header", "nav", "footer", "title"):
        assert len(tree.all(tag)) == 1
    assert tree.all("html") == [{"lang": "en"}]
    ids = [part["id"] for _, part in tree.elements if "id" in part]
    assert len(set(ids)) == len(ids)
    inside = [part["href"][1:] for part in tree.all("a") if part["href"].startswith("#")]
    sections = "summary reading data recall thresholds cosines overlap enrichment preservation method"
    assert inside == sections.split()
    assert [part["id"] for part in tree.all("section")] == inside
    assert {part["aria-labelledby"] for part in tree.all("section")} <= set(ids)
    assert len(tree.all("figure")) == len(tree.all("figcaption")) == len(tree.all("img"))
    assert all(len(part["alt"]) > 30 and int(part["width"]) < 800 for part in tree.all("img"))
    assert len(tree.all("caption")) == len(tree.all("table"))


def test_the_page_loads_nothing(full, tree):
    text = full.read_text(encoding="utf-8")
    assert {"script", "iframe", "object", "embed", "base", "form"}.isdisjoint(tag for tag, _ in tree.elements)
    assert all(
        part["src"].startswith(("data:image/svg+xml;base64,", "data:image/png;base64,")) for part in tree.all("img")
    )
    assert [part["href"] for part in tree.all("link")] == ["data:,"]
    outside = [part["href"] for part in tree.all("a") if "//" in part["href"].split("base64,")[0]]
    assert outside == ["https://doi.org/10.48550/arXiv.2505.21317"]
    assert re.sub(r'<a href="https://[^"]*"', "", text).count("://") == 0
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert not re.search(r"url\(|@import|@font-face", style)
    (policy,) = (part["content"] for part in tree.all("meta") if "http-equiv" in part)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not any(name.startswith("on") for _, part in tree.elements for name in part)
    for part in tree.all("img"):
        if "svg" in part["src"]:
            assert b"<image" not in b64decode(part["src"].split("base64,")[1])
    assert full.stat().st_size < 3e6


def test_labels_are_text_and_no_markup(tree, study):
    assert {"b", "i", "u", "half"}.isdisjoint(tag for tag, _ in tree.elements)
    said = tree.said
    for label in (study.nasty, "<b>bold</b>", "S & <i>P</i>", "first <half>", "<u>pca</u>"):
        assert label in said
    assert f"Known relationships recalled by planted, noise and {study.nasty}" in said


def test_numbers_are_those_of_recall(tree, adata, annotated, study):
    keys = {"use_rep": study.names, "relationships": annotated, **study.keys}
    expected = scl.tl.recall(adata, **keys, thresholds=THRESHOLDS, n_permutations=100, rng=0)
    pd.testing.assert_frame_equal(tree.file("recall.csv"), expected, rtol=1e-12)
    main = expected[expected["threshold_low"] == 0.05]
    head, rows = tree.tables["Recall by database"]
    assert head[:3] == ["Representation", "Database", "Recall"]
    assert [row[0] for row in rows] == main["representation"].tolist()
    assert [row[1] for row in rows] == main["key"].tolist()
    assert [row[2] for row in rows] == [share(value) for value in main["value"]]
    assert [row[3] for row in rows] == [
        "–" if low != low else f"{share(low)} to {share(high)}" for low, high in main[["ci_low", "ci_high"]].to_numpy()
    ]
    assert [row[4:6] for row in rows] == [[str(n) for n in row] for row in main[["n_recalled", "n_pairs"]].to_numpy()]
    assert [row[8] for row in rows] == ["–" if p != p else f"{p:#.2g}" for p in main["p_value"]]

    _, rows = tree.tables["Recall of known relationships at the thresholds 5% and 95%"]
    kept = main[main["key"].isin(["mean", "union"])]
    assert [row[:3] for row in rows] == [
        [name, key, share(value)] for name, key, value in kept[["representation", "key", "value"]].to_numpy()
    ]
    head, rows = tree.tables["Mean recall by the share of all pairs in the two tails"]
    assert head[1:] == ["10%", "20%", "30%", "40%", "50%"]
    for name, *values in rows:
        mean = expected[(expected["representation"] == name) & (expected["key"] == "mean")]
        assert values == [share(value) for value in mean["value"]]
    assert "they do not count in the mean: empty." in tree.said


def test_files_are_the_tables_of_the_tools(tree, adata, annotated, preserved, study):
    keys = {"use_rep": study.names, "relationships": annotated, **study.keys}
    pd.testing.assert_frame_equal(tree.file("similarity.csv"), scl.tl.similarity(adata, **keys), rtol=1e-12)
    sets = scl.tl.relationship_sets(adata, **keys)
    pd.testing.assert_frame_equal(tree.file("overlap.csv"), scl.tl.overlap(sets))
    gains = scl.tl.gains_losses(sets, base="noise")
    pd.testing.assert_frame_equal(tree.file("gains_losses.csv"), gains)
    _, rows = tree.tables["Gains and losses"]
    assert [[row[0], *map(int, row[3:])] for row in rows] == gains[
        ["representation", "gains", "losses", "total", "base_total"]
    ].to_numpy().tolist()
    assert [row[2] for row in rows] == [
        f"{a * b / len(sets):.1f}" for a, b in gains[["total", "base_total"]].to_numpy()
    ]
    for name, file in (("planted", "planted"), (study.nasty, "_script_alert_x_script_y_")):
        region = {"inside": name, "outside": "noise"}
        for label, part in (("gained", region), ("lost", {"inside": "noise", "outside": name})):
            pairs = scl.tl.region(sets, **part)[["gene_a", "gene_b", "databases"]]
            table = tree.file(f"{label}_{file}.csv")
            pd.testing.assert_frame_equal(
                table.sort_values(["gene_a", "gene_b"], ignore_index=True),
                pairs.replace("=1+1", "'=1+1"),  # a spreadsheet would compute it
                check_dtype=False,
            )
        enriched = scl.tl.enrich(sets, **region, gene_sets=study.sets)
        table = tree.file(f"enrichment_{file}.csv").fillna({"genes": ""})
        pd.testing.assert_frame_equal(table, enriched, rtol=1e-12, check_dtype=False)
    pd.testing.assert_frame_equal(tree.file("preservation.csv"), preserved, rtol=1e-12)
    gained = tree.file("gained_planted.csv")["databases"].str.count(";")
    assert set(gained.diff().dropna()) == {0, -1}, "the pairs in most databases come first"


def test_the_summary_the_data_and_parameters_are_told(tree):
    said = tree.said
    for words in (
        "planted recalls more known relationships than chance. On average over the databases it recalls ",
        "noise shows no evidence of recalling more known relationships than chance.",
        "does not test whether two representations differ",
        "300, of which 60 controls",
        "40, with 6 observations each",
        "at least 30, median 30",
        "40 of 40",
        "30 with both genes in the map",
        "a table of 41 rows",
        "a mapping, 3 sets",
        "100 exchanges of the gene labels",
        "10.48550/arXiv.2505.21317",
        f"semiclip {scl.__version__}",
    ):
        assert words in said, words
    _, rows = tree.tables["Parameters that adata.uns['semiclip'] records"]
    assert rows[:3] == [
        ["planted", "encoder", "<u>pca</u>"],
        ["planted", "n", "0, 1, 2"],
        ["planted", "plan.lr", "0.1"],
    ]
    assert rows[3:] == [["planted", "long", "x" * 200 + "…"]]
    _, rows = tree.tables["Preservation of expression"]
    assert rows[0] == ["constant", "seen", "−0.100", "0.000", "−5.0"]
