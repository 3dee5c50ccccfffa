from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from base64 import b64decode
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip._report import _about, _page, _report
from semiclip._report._findings import THRESHOLDS
from semiclip._report._format import count, decimals, interval, listed, p_value, share
from semiclip.pl._style import OKABE_ITO

NASTY = "<script>alert('x')</script> & \"y\""
NAMES = ["planted", "noise", NASTY]
KEYS = {"perturbation_key": "gene", "control": "control", "batch_key": "plate"}
GENES = [f"G{i:02}" for i in range(38)] + ["<b>bold</b>", "=1+1"]
QUICK = {"n_permutations": 100, "progress_bar": False}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "hr", "input"}


def make_data():
    """40 genes in pairs, six wells each and controls, in two plates that differ by an offset."""
    rng = np.random.default_rng(0)
    genes = np.array([*GENES * 6, *["control"] * 60])
    plate = (np.arange(len(genes)) // 40 + np.arange(len(genes))) % 2  # each gene is in both
    means = dict(zip([*GENES, "control"], [*np.repeat(rng.normal(size=(20, 8)), 2, axis=0), 0], strict=True))
    x = np.stack([means[gene] + rng.normal(size=8) for gene in genes]) + 2 * plate[:, None]
    obs = pd.DataFrame({"gene": pd.Categorical(genes), "plate": plate.astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    adata = anndata.AnnData(obs=obs)
    for name, values in zip(
        NAMES, [x, np.random.default_rng(4).normal(size=x.shape), x + rng.normal(size=x.shape)], strict=True
    ):
        adata.obsm[name] = values
    return adata


def make_relationships():
    pairs = pd.DataFrame({"database": "CORUM", "gene_a": GENES[::2], "gene_b": GENES[1::2]})
    other = pd.DataFrame({"database": "S & <i>P</i>", "gene_a": GENES[:20:2], "gene_b": GENES[1:20:2]})
    wrong = pd.DataFrame({"database": "S & <i>P</i>", "gene_a": GENES[:10], "gene_b": GENES[20:30]})
    absent = pd.DataFrame({"database": ["empty"], "gene_a": ["?"], "gene_b": ["??"]})
    return pd.concat([pairs, other, wrong, absent], ignore_index=True)


SETS = {"first <half>": GENES[:20], "second half": GENES[20:], "none": ["?"]}


class Tree(HTMLParser):
    """Reads a page, refuses what is not well-formed, and keeps elements, tables and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.tables, self.text = [], [], {}, []
        self.cell = self.rows = None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "caption"):
            self.cell = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "caption":
            self.caption = self.cell
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
        if tag == "table":
            head, *body = self.rows
            assert {len(row) for row in body} <= {len(head)}
            assert self.caption not in self.tables or "Gene" in head[0]
            self.tables[self.caption] = (head, body)

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.cell is not None:
            self.cell += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def file(self, name):
        """Read a table that the page holds as a file."""
        (link,) = (part["href"] for part in self.all("a") if part.get("download") == name)
        content = b64decode(link.removeprefix("data:text/csv;base64,"))
        return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])


@pytest.fixture
def adata():
    return make_data()


@pytest.fixture
def known():
    return make_relationships()


@pytest.fixture(scope="module")
def preserved():
    index = pd.MultiIndex.from_product(
        [
            ["constant", "noise"],
            ["seen perturbations", "unseen perturbations"],
            ["structural_integrity", "spearman_gene"],
        ]
    )
    table = pd.DataFrame({"value": np.linspace(-0.1, 0.6, 8)}, index=index).reset_index()
    table.columns = ["representation", "key", "metric", "value"]
    score = table.groupby(["representation", "key"], as_index=False)["value"].mean()
    return pd.concat([table, score.assign(metric="preservation", value=100 * score["value"])], ignore_index=True)


@pytest.fixture(scope="module")
def full(tmp_path_factory, preserved):
    """A page with every section."""
    adata = make_data()
    adata.uns["semiclip"] = {
        "planted": {"params": {"encoder": "<u>pca</u>", "n": np.arange(3), "plan": {"lr": 0.1}, "long": "x" * 300}},
        "other": "no mapping",
    }
    path = tmp_path_factory.mktemp("report") / "full.html"
    scl.report(
        adata,
        path,
        use_rep=NAMES,
        base="noise",
        relationships=make_relationships(),
        gene_sets=SETS,
        preservation=preserved,
        **KEYS,
        **QUICK,
    )
    return path


@pytest.fixture(scope="module")
def tree(full):
    return Tree(full.read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_complete(tree):
    for tag in ("h1", "main", "header", "nav", "footer", "title"):
        assert len(tree.all(tag)) == 1
    assert tree.all("html") == [{"lang": "en"}]
    ids = [part["id"] for _, part in tree.elements if "id" in part]
    assert len(set(ids)) == len(ids)
    inside = [part["href"][1:] for part in tree.all("a") if part["href"].startswith("#")]
    sections = [
        "summary",
        "reading",
        "data",
        "recall",
        "thresholds",
        "cosines",
        "overlap",
        "enrichment",
        "preservation",
    ]
    assert inside == [*sections, "method"]
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


def test_labels_are_text_and_no_markup(tree):
    assert {"b", "i", "u", "half"}.isdisjoint(tag for tag, _ in tree.elements)
    said = "".join(tree.text)
    for label in (NASTY, "<b>bold</b>", "S & <i>P</i>", "first <half>", "<u>pca</u>"):
        assert label in said
    assert f"Known relationships recalled by planted, noise and {NASTY}" in said


def test_numbers_are_those_of_recall(tree, adata, known):
    how = {"use_rep": NAMES, "relationships": known, **KEYS}
    expected = scl.tl.recall(adata, **how, thresholds=THRESHOLDS, n_permutations=100, rng=0)
    pd.testing.assert_frame_equal(tree.file("recall.csv"), expected, rtol=1e-12)
    main = expected[expected["threshold_low"] == 0.05]
    head, rows = tree.tables["Recall by database"]
    assert head[:3] == ["Representation", "Database", "Recall"]
    assert [row[0] for row in rows] == main["representation"].tolist()
    assert [row[1] for row in rows] == main["key"].tolist()
    assert [row[2] for row in rows] == [share(value) for value in main["value"]]
    assert [row[3] for row in rows] == [interval(*ends) for ends in main[["ci_low", "ci_high"]].to_numpy()]
    assert [row[4:6] for row in rows] == [[str(n) for n in row] for row in main[["n_recalled", "n_pairs"]].to_numpy()]
    assert [row[8] for row in rows] == [p_value(p) for p in main["p_value"]]

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
    assert "they do not count in the mean: empty." in "".join(tree.text)


def test_files_are_the_tables_of_the_tools(tree, adata, known, preserved):
    how = {"use_rep": NAMES, "relationships": known, **KEYS}
    pd.testing.assert_frame_equal(tree.file("similarity.csv"), scl.tl.similarity(adata, **how), rtol=1e-12)
    sets = scl.tl.relationship_sets(adata, **how)
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
    for name, file in (("planted", "planted"), (NASTY, "_script_alert_x_script_y_")):
        region = {"inside": name, "outside": "noise"}
        for label, part in (("gained", region), ("lost", {"inside": "noise", "outside": name})):
            pairs = scl.tl.region(sets, **part)[["gene_a", "gene_b", "databases"]]
            found = tree.file(f"{label}_{file}.csv")
            pd.testing.assert_frame_equal(
                found.sort_values(["gene_a", "gene_b"], ignore_index=True), pairs, check_dtype=False
            )
        enriched = scl.tl.enrich(sets, **region, gene_sets=SETS)
        found = tree.file(f"enrichment_{file}.csv").fillna({"genes": ""})
        pd.testing.assert_frame_equal(found, enriched, rtol=1e-12, check_dtype=False)
    pd.testing.assert_frame_equal(tree.file("preservation.csv"), preserved, rtol=1e-12)


def test_the_pairs_in_most_databases_come_first(tree):
    gained = tree.file("gained_planted.csv")["databases"].str.count(";")
    assert set(gained.diff().dropna()) == {0, -1}


def test_the_summary_says_what_the_numbers_say(tree):
    said = "".join(tree.text)
    assert "planted recalls more known relationships than chance. On average over the databases it recalls " in said
    assert "noise shows no evidence of recalling more known relationships than chance." in said
    assert "does not test whether two representations differ" in said


def test_data_and_parameters_are_told(tree):
    said = " ".join(tree.text)
    for words in (
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


def test_one_representation_one_database_no_controls_no_correction(tmp_path, adata):
    one = adata[adata.obs["gene"] != "control"]
    known = pd.DataFrame({"gene_a": GENES[::2], "gene_b": GENES[1::2]})
    how = {"use_rep": "planted", "perturbation_key": "gene", "control": None, "method": None, "relationships": known}
    path = scl.report(one, tmp_path / "one.html", **how, gene_sets=SETS, title="A <title>", **QUICK)
    text = path.read_text(encoding="utf-8")
    tree, said = Tree(text), " ".join(Tree(text).text)
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
    enriched = scl.tl.enrich(sets, inside="planted", gene_sets=SETS, background="map")
    pd.testing.assert_frame_equal(tree.file("enrichment_planted.csv"), enriched, rtol=1e-12, check_dtype=False)
    assert one.is_view


def test_maps_that_recall_nothing(tmp_path, adata, known):
    for name in ("flat", "level"):
        adata.obsm[name] = np.ones((adata.n_obs, 2))
    how = {"use_rep": ["flat", "level"], "relationships": known, "method": None, **KEYS, **QUICK}
    tree = Tree(scl.report(adata, tmp_path / "none.html", **how).read_text(encoding="utf-8"))
    said = " ".join(tree.text)
    assert "None of the representations recalls an annotated pair." in said
    assert "Pairs gained by level over flat There is none." in re.sub(r"\s+", " ", said)
    assert "flat shows no evidence" in re.sub(r"\s+", " ", said)
    assert "Not computed. Pass gene_sets=" in said


def test_what_gains_nothing_still_loses(tmp_path, adata, known):
    adata.obsm["flat"] = np.ones((adata.n_obs, 2))
    how = {"use_rep": ["planted", "flat"], "relationships": known, "method": None, **KEYS}
    path = scl.report(adata, tmp_path / "lost.html", **how, gene_sets=SETS, **QUICK)
    tree = Tree(path.read_text(encoding="utf-8"))
    assert len(tree.file("lost_flat.csv")) == scl.tl.relationship_sets(adata, **how)["planted"].sum() > 0
    said = re.sub(r"\s+", " ", " ".join(tree.text))
    assert "Pairs gained by flat over planted There is none." in said
    assert "There is no such pair, so there is nothing to test." in said


def test_more_databases_than_colours(tmp_path, adata):
    names = [f"base {i}" for i in range(len(OKABE_ITO) + 2)]
    known = pd.DataFrame({"database": (names * 3)[:20], "gene_a": GENES[::2], "gene_b": GENES[1::2]})
    path = scl.report(adata, tmp_path / "many.html", use_rep="planted", relationships=known, **KEYS, **QUICK)
    assert "Pairs recalled by planted, by database" in path.read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_page_and_nothing_is_changed(tmp_path, adata, known):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before, settings, figures = adata.copy(), mpl.rcParams.copy(), plt.get_fignums()
    how = {"use_rep": ["planted", "noise"], "relationships": known, **KEYS, **QUICK}
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
    for name in NAMES:
        np.testing.assert_array_equal(adata.obsm[name], before.obsm[name])
    pd.testing.assert_frame_equal(known, make_relationships())


def test_the_default_annotations_are_those_of_the_datasets(tmp_path, adata, known, monkeypatch):
    monkeypatch.setattr(scl.datasets, "relationships", lambda: known)
    (tmp_path / "sets.gmt").write_text("mine\tx\t" + "\t".join(GENES[:10]) + "\n")
    asked = _report._asked(
        adata, "planted", None, {**KEYS, **CORRECTION}, None, tmp_path / "sets.gmt", 100, np.random.default_rng(0)
    )
    assert asked.how["relationships"] is known
    assert asked.sources == {
        "relationships": "those of scl.datasets.relationships()",
        "gene_sets": "sets.gmt, 1 set",
    }
    assert asked.gene_sets == {"mine": GENES[:10]}
    again = _report._asked(adata, "planted", None, {**KEYS, **CORRECTION}, None, None, 100, np.random.default_rng(0))
    assert again.seed == asked.seed


CORRECTION = {"method": "tvn", "profile": "clean", "ridge": 0.0, "fallback": "raise"}


@pytest.fixture
def never(monkeypatch):
    """Fail if anything is computed."""

    def computed(*_):
        pytest.fail("the work began")

    monkeypatch.setattr(_report, "computed", computed)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"use_rep": []}, ValueError, "use_rep names no representation"),
        ({"use_rep": "absent"}, KeyError, "use_rep='absent' is not in obsm"),
        ({"use_rep": list("abcdefg")}, ValueError, r"names 7 representations \(a, .*\); the page shows at most 6"),
        ({"base": "absent"}, KeyError, "base='absent' is not in use_rep, which has planted"),
        ({"n_permutations": 99}, ValueError, "n_permutations=99 must be a whole number of at least 100"),
        ({"n_permutations": True}, ValueError, "n_permutations=True must be"),
        ({"n_permutations": 100.0}, ValueError, "n_permutations=100.0 must be"),
        ({"control": "absent"}, ValueError, r"control label\(s\) absent match no row"),
        ({"batch_key": "absent"}, KeyError, "batch_key='absent' is not a column of obs"),
        ({"gene_sets": "absent.gmt"}, FileNotFoundError, "no gene sets are called 'absent.gmt'"),
        ({"preservation": pd.DataFrame({"value": [1.0]})}, KeyError, "draw what scl.tl.preservation returns"),
        ({"preservation": [1]}, TypeError, "table is a list"),
    ],
)
def test_mistakes_are_refused_before_the_work(tmp_path, adata, known, never, change, error, message):
    how = {"use_rep": "planted", "relationships": known, **KEYS, **QUICK} | change
    with pytest.raises(error) as raised:
        scl.report(adata, tmp_path / "report.html", **how)
    assert re.search(message, str(raised.value.args[0]))
    assert not list(tmp_path.iterdir())


def test_paths_are_refused_before_the_work(tmp_path, adata, known, never, monkeypatch):
    how = {"use_rep": "planted", "relationships": known, **KEYS, **QUICK}
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a file in it, such as .*report\.html"):
        scl.report(adata, tmp_path, **how)
    with pytest.raises(FileNotFoundError, match="absent does not exist; make it first"):
        scl.report(adata, tmp_path / "absent" / "report.html", **how)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"report.html exists; pass overwrite=True"):
        scl.report(adata, tmp_path / "report.html", **how)
    monkeypatch.setattr(_report.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to"):
        scl.report(adata, tmp_path / "other.html", **how)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("old", [None, "mine"])
@pytest.mark.parametrize("where", ["section", "write"])
def test_an_error_in_the_middle_leaves_no_half_page(tmp_path, adata, known, monkeypatch, old, where):
    def fails(*_, **__):
        msg = "disk full"
        raise OSError(msg)

    path = tmp_path / "report.html"
    if old:
        path.write_text(old)
    # the pictures take long and are not what this is about
    for name in ("recall", "curve", "similarity"):
        monkeypatch.setattr(_report._recall, name, lambda *_: scl._report._parts.Section("key", "title", []))
    monkeypatch.setattr(_report._overlap, "overlap", lambda *_: scl._report._parts.Section("key", "title", []))
    monkeypatch.setattr(*((_about, "method") if where == "section" else (Path, "replace")), fails)
    with pytest.raises(OSError, match="disk full"):
        scl.report(adata, path, use_rep="planted", relationships=known, overwrite=True, **KEYS, **QUICK)
    assert [part.name for part in tmp_path.iterdir()] == ["report.html"] * bool(old)
    assert old is None or path.read_text() == old


def test_writes_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = _report._writable("~/report.html", overwrite=False)
    assert file == tmp_path / "report.html"
    _report._write(file, "é\n")
    assert file.read_bytes() == "é\n".encode()
    _report._write(_report._writable(str(file), overwrite=True), "again")
    assert file.read_text() == "again"
    monkeypatch.chdir(tmp_path)
    assert _report._writable("other.html", overwrite=False) == Path("other.html")


def test_numbers_as_text():
    assert [share(0.1234), share(np.nan), interval(0.05, 0.5), interval(np.nan, np.nan)] == [
        *["12.3%", "–", "5.0% to 50.0%", "–"]
    ]
    assert [p_value(1.0), p_value(1 / 1001), p_value(3e-7), p_value(np.nan)] == ["1.0", "0.0010", "3.0e-07", "–"]
    assert [decimals(-1234.56, 1), decimals(-0.01, 1), decimals(np.nan, 1)] == ["−1,234.6", "0.0", "–"]
    assert [count(1, "gene"), count(2000, "gene"), listed(["a"]), listed(["a", "b", "c"])] == [
        *["1 gene", "2,000 genes", "a", "a, b and c"]
    ]


def test_only_parts_of_pages_are_rendered():
    with pytest.raises(TypeError, match="no str on a page"):
        _page._html("<b>")


WATCH = """<!DOCTYPE html>
<body>
<iframe id="page" src="{name}" style="width:390px;height:800px;border:0"></iframe>
<script>
page.onload = () => {{
  const view = page.contentWindow, root = page.contentDocument
  document.body.dataset.found = JSON.stringify({{
    window: view.innerWidth,
    page: root.documentElement.scrollWidth,
    wide: [...root.querySelectorAll("body *")]
      .filter(part => !part.closest("table") && part.getBoundingClientRect().right > view.innerWidth + 0.5)
      .map(part => part.tagName),
    loaded: view.performance.getEntriesByType("resource").map(entry => entry.name),
    pictures: [...root.images].map(image => image.complete && image.naturalWidth),
    background: view.getComputedStyle(root.body).backgroundColor,
  }})
}}
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_it_at_the_width_of_a_phone_and_loads_nothing(full, tmp_path):
    name = full.with_name("watch.html")
    name.write_text(WATCH.format(name=full.name), encoding="utf-8")
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync", "extensions"]
    options = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{part}" for part in quiet)]
    options += ["--force-dark-mode", "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"]
    options += [f"--user-data-dir={tmp_path}", "--window-size=600,900", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *options, name.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr
    found = json.loads(unescape(re.search(r'data-found="([^"]*)"', done.stdout)[1]))
    assert found["window"] == 390
    assert found["page"] <= 390
    assert found["wide"] == found["loaded"] == []
    assert len(found["pictures"]) == 10
    assert min(found["pictures"]) > 100
    assert found["background"] == "rgb(255, 255, 255)"
