"""A small study with awkward names, its report, and what reads a page."""

import io
from base64 import b64decode
from html.parser import HTMLParser
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl

NASTY = "<script>alert('x')</script> & \"y\""
NAMES = ["planted", "noise", NASTY]
KEYS = {"perturbation_key": "gene", "control": "control", "batch_key": "plate"}
GENES = [f"G{i:02}" for i in range(38)] + ["<b>bold</b>", "=1+1"]
SETS = {"first <half>": GENES[:20], "second half": GENES[20:], "none": ["?"]}
QUICK = {"n_permutations": 100, "progress_bar": False, "rng": 0}
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
    adata.obsm["planted"], adata.obsm["noise"] = x, np.random.default_rng(4).normal(size=x.shape)
    adata.obsm[NASTY] = x + rng.normal(size=x.shape)
    return adata


def make_relationships():
    pairs = {"CORUM": (GENES[::2], GENES[1::2])}  # the planted ones, then a half of them and wrong ones
    pairs["S & <i>P</i>"] = (GENES[:20:2] + GENES[:10], GENES[1:20:2] + GENES[20:30])
    pairs["empty"] = (["?"], ["??"])
    tables = [pd.DataFrame({"database": name, "gene_a": a, "gene_b": b}) for name, (a, b) in pairs.items()]
    return pd.concat(tables, ignore_index=True)


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

    @property
    def said(self):
        """All text, with single spaces."""
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def file(self, name):
        """Read a table that the page holds as a file."""
        (link,) = (part["href"] for part in self.all("a") if part.get("download") == name)
        content = b64decode(link.removeprefix("data:text/csv;base64,"))
        return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])


@pytest.fixture(scope="session")
def study():
    """What the pages are made from."""
    return SimpleNamespace(names=NAMES, nasty=NASTY, genes=GENES, sets=SETS, keys=KEYS, quick=QUICK)


@pytest.fixture
def write(tmp_path):
    """Write a page, quickly, and take it apart."""

    def make(adata, name="report.html", **options):
        path = scl.report(adata, tmp_path / name, **QUICK | options)
        return Tree(path.read_text(encoding="utf-8"))

    return make


@pytest.fixture
def adata():
    return make_data()


@pytest.fixture
def annotated():
    return make_relationships()


@pytest.fixture(scope="session")
def preserved():
    tests, metrics = ["seen perturbations", "unseen perturbations"], ["structural_integrity", "spearman_gene"]
    index = pd.MultiIndex.from_product([["constant", "noise"], tests, metrics])
    table = pd.DataFrame({"value": np.linspace(-0.1, 0.6, 8)}, index=index).reset_index()
    table.columns = ["representation", "key", "metric", "value"]
    score = table.groupby(["representation", "key"], as_index=False)["value"].mean()
    return pd.concat([table, score.assign(metric="preservation", value=100 * score["value"])], ignore_index=True)


@pytest.fixture(scope="session")
def full(tmp_path_factory, preserved):
    """A page with every section."""
    adata = make_data()
    adata.uns["semiclip"] = {
        "planted": {"params": {"encoder": "<u>pca</u>", "n": np.arange(3), "plan": {"lr": 0.1}, "long": "x" * 300}},
        "other": "no mapping",
    }
    path = tmp_path_factory.mktemp("report") / "full.html"
    more = {"base": "noise", "relationships": make_relationships(), "gene_sets": SETS, "preservation": preserved}
    return scl.report(adata, path, use_rep=NAMES, **more, **KEYS, **QUICK)


@pytest.fixture(scope="session")
def tree(full):
    return Tree(full.read_text(encoding="utf-8"))
