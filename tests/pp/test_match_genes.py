from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import semiclip as scl
from semiclip import errors
from semiclip.pp import match_genes

ALIASES = pd.Series({"MLL2": "KMT2D", "ALR": "KMT2D", "UTX": "KDM6A", "HDM2": "MDM2", "NT": "NTS"}, name="symbol")
SCREEN = ["KMT2D", "UTX", "TP53", "MDM2", "NT", "Myc", "MYC"]


def pair(*pairs):
    return pd.DataFrame(pairs, columns=["gene_a", "gene_b"])


def test_relationships_take_the_names_of_the_screen(caplog):
    pairs = pair(("MLL2", "KDM6A"), ("ALR", " tp53"), ("TP53", "MDM2"), ("HDM2", "XIST"), ("myc", "NTS"))
    pairs = pairs.assign(database="A", weight=range(5))
    before = pairs.copy()
    with caplog.at_level(logging.INFO, logger="semiclip"):
        matched = match_genes(pairs, SCREEN * 2, control=["NT"], aliases=ALIASES)
    pd.testing.assert_frame_equal(pairs, before)
    # myc could be either of two, and NT is no gene
    expected = pair(("KMT2D", "UTX"), ("KMT2D", "TP53"), ("TP53", "MDM2"), ("MDM2", "XIST"), ("myc", "NTS"))
    pd.testing.assert_frame_equal(matched, expected.assign(database="A", weight=range(5)))
    renamed = {" tp53": "TP53", "ALR": "KMT2D", "HDM2": "MDM2", "KDM6A": "UTX", "MLL2": "KMT2D"}
    assert matched.attrs["renamed"] == renamed
    (message,) = caplog.messages
    assert message.startswith("5 of 10 gene names become those of the reference:  tp53 to TP53, ALR to KMT2D, ")
    without = match_genes(pairs, SCREEN, aliases=ALIASES)
    assert without["gene_b"].tolist()[-1] == "NT"


def test_recall_finds_the_pairs_of_former_symbols(warned):
    """Genes of a screen in new symbols, relationships in old ones: recall is that of relationships in new ones."""
    new = [f"NEW{i:02}" for i in range(40)]
    old = dict(zip((f"OLD{i:02}" for i in range(20)), new, strict=False))
    names = {symbol: alias for alias, symbol in old.items()}
    values = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)
    adata = AnnData(obs=pd.DataFrame({"gene": [*new, "control"]}, index=[f"s{i}" for i in range(41)]))
    adata.obsm["X_any"] = np.vstack([values, np.zeros(8)])
    right = pair(*zip(new[::2], new[1::2], strict=True))
    former = right.replace(names)
    keys = {"use_rep": "X_any", "perturbation_key": "gene", "control": "control", "method": None, "n_permutations": 0}
    expected = scl.tl.recall(adata, **keys, relationships=right)
    lost = scl.tl.recall(adata, **keys, relationships=former)
    assert (expected["n_pairs"][0], lost["n_pairs"][0]) == (20, 10)
    matched = match_genes(former, adata.obs["gene"], control="control", aliases=old)
    pd.testing.assert_frame_equal(scl.tl.recall(adata, **keys, relationships=matched), expected)
    # the other way round: the screen has the old symbols
    adata.obs["gene"] = adata.obs["gene"].replace(names)
    matched = match_genes(right, adata.obs["gene"], control="control", aliases=old)
    found = scl.tl.recall(adata, **keys, relationships=matched)
    pd.testing.assert_frame_equal(found.drop(columns="error"), expected.drop(columns="error"))
    assert warned() == []


@pytest.mark.parametrize("kind", ["category", "object", "string"])
def test_perturbations_of_one_modality_take_the_names_of_the_other(make_screen, kind):
    mdata = make_screen(["KMT2D", "UTX", "TP53"], ["MLL2", "KDM6A", "p53", "MLL2"])
    obs = mdata["image"].obs
    obs["drug"] = obs["drug"].astype(kind)
    keys = {"pair_on": "drug", "perturbation_key": "drug", "control": "dmso"}
    with pytest.raises(errors.NothingShared):
        scl.pp.pair(mdata, **keys)
    aliases = {**ALIASES, "p53": "TP53"}
    matched = match_genes(obs["drug"], mdata["rna"].obs["drug"], control="dmso", aliases=aliases)
    assert matched.dtype == (matched.astype("category").dtype if kind == "category" else obs["drug"].dtype)
    obs["drug"] = matched
    report = scl.pp.pair(mdata, **keys)
    assert report[["drug", "n_student", "n_teacher"]].to_numpy().tolist() == [
        ["KMT2D", 1, 2], ["TP53", 1, 1], ["UTX", 1, 1],
    ]  # fmt: skip


def test_two_perturbations_never_become_one(warned):
    mine = pd.Series(["MLL2", "KMT2D", "UTX", "kdm6a", "HDM2", np.nan, 7], dtype=object)
    matched = match_genes(mine, ["KMT2D", "KDM6A", "MDM2"], aliases=ALIASES)
    assert matched.tolist()[:5] == ["MLL2", "KMT2D", "UTX", "kdm6a", "MDM2"]
    assert matched.isna().tolist() == mine.isna().tolist()
    assert matched[6] == 7
    assert matched.attrs["renamed"] == {"HDM2": "MDM2"}
    (message,) = warned()
    told = "'MLL2' is 'KMT2D', 'UTX' is 'KDM6A', 'kdm6a' is 'KDM6A'"
    assert message == f"3 gene name(s) stay, since the column has the same gene under another name: {told}"
    both = match_genes(pd.Series(["ALR", "MLL2"]), ["KMT2D"], aliases=ALIASES)
    assert both.tolist() == ["ALR", "MLL2"]
    assert "2 gene name(s) stay" in warned()[0]


@pytest.mark.parametrize("kind", [dict, pd.Series])
@pytest.mark.parametrize("nothing", [np.nan, None, "", " "])
def test_aliases_without_a_symbol_mean_no_gene(kind, nothing):
    aliases = kind({"A": nothing, "B": nothing, "MLL2": "KMT2D"})
    assert match_genes(pd.Series(["A", "MLL2"]), ["B", "KMT2D"], aliases=aliases).tolist() == ["A", "KMT2D"]


def test_what_could_mean_two_genes_without_case_stays():
    aliases = {"Cad": "OTHER", "ALR": "KMT2D"}
    mine = pd.Series(["Cad", "alr"])
    assert match_genes(mine, ["OTHER", "CAD"], aliases=aliases).tolist() == ["Cad", "alr"]
    # a name of the reference counts as it is and as the symbol that it is an alias of
    assert match_genes(mine, ["OTHER", "ALR"], aliases=aliases).tolist() == ["OTHER", "ALR"]
    assert match_genes(pd.Series(["kmt2d"]), ["ALR"], aliases=aliases).tolist() == ["ALR"]
    assert match_genes(pd.Series(["kmt2d"]), ["ALR", "Kmt2d"], aliases=aliases).tolist() == ["kmt2d"]


@pytest.mark.parametrize("kind", [list, np.array, pd.Index, tuple, pd.Series])
def test_controls_are_no_genes_however_they_are_spelt(kind):
    control = kind(["NT", "Non-targeting"])
    mine = pd.Series(["NT ", "nt", "non-targeting", "NTS", "MLL2"])
    expected = ["NT ", "nt", "non-targeting", "NTS", "KMT2D"]
    reference = ["NTS", "KMT2D", "NON-TARGETING"]
    assert match_genes(mine, reference, control=control, aliases=ALIASES).tolist() == expected
    assert match_genes(pd.Series(["NTS"]), ["nt\u00a0"], control=control, aliases=ALIASES).tolist() == ["NTS"]


def test_labels_that_name_nothing_become_no_gene():
    aliases = {"NA": "NAGLU", "nan": "NAGLU"}
    nothing = pd.Series(["NA", "nan", "None", "Unknown", "NAGLU"])
    reference = ["NAGLU", "none", "unknown"]
    pd.testing.assert_series_equal(match_genes(nothing, reference, aliases=aliases), nothing)
    assert match_genes(pd.Series(["NAGLU"]), ["NA"], aliases=aliases).tolist() == ["NAGLU"]


def test_categories_keep_their_order_and_kind():
    mine = pd.Series(pd.Categorical(["MLL2", "TP53", None], ["Z", "MLL2", "TP53"], ordered=True), ["a", "b", "c"])
    expected = pd.Series(pd.Categorical(["KMT2D", "TP53", None], ["Z", "KMT2D", "TP53"], ordered=True), mine.index)
    pd.testing.assert_series_equal(match_genes(mine, SCREEN, aliases=ALIASES), expected)
    mine = pd.Series(pd.Categorical(["MLL2"], ["KMT2D", "MLL2"]))  # the new name is a category without rows
    expected = pd.Series(pd.Categorical(["KMT2D"], ["KMT2D"]))
    pd.testing.assert_series_equal(match_genes(mine, SCREEN, aliases=ALIASES), expected)
    numbers = pd.Series(pd.Categorical([3, 1, None], [3, 2, 1]))
    pd.testing.assert_series_equal(match_genes(numbers, SCREEN, aliases=ALIASES), numbers)


def test_nothing_to_rename_leaves_everything(caplog):
    pairs = pair(("A", "B"))
    with caplog.at_level(logging.INFO, logger="semiclip"):
        matched = match_genes(pairs, ["A", "B"], aliases=ALIASES)
    pd.testing.assert_frame_equal(matched, pairs)
    assert matched.attrs["renamed"] == {}
    assert caplog.messages == ["0 of 2 gene names become those of the reference"]


def test_by_default_the_names_of_hgnc(monkeypatch):
    monkeypatch.setattr(scl.datasets, "gene_aliases", lambda: ALIASES)
    assert match_genes(pair(("MLL2", "TP53")), SCREEN).to_numpy().tolist() == [["KMT2D", "TP53"]]


def test_refuses_what_is_no_table_of_genes(refuses):
    with refuses(errors.WrongType, name="genes"):
        match_genes(["MLL2"], SCREEN, aliases=ALIASES)
    with refuses(errors.MissingColumn, key=["gene_b"], where="genes"):
        match_genes(pair(("A", "B"))[["gene_a"]], SCREEN, aliases=ALIASES)
    with refuses(errors.Repeated, items=["MLL2"]):
        match_genes(pair(("A", "B")), SCREEN, aliases=pd.Series(["A", "B"], index=["MLL2", "MLL2"]))


@pytest.mark.parametrize("make", [set, list, tuple, pd.Index, np.array, pd.Series, pd.Categorical])
def test_a_reference_has_any_form_that_holds_names(make):
    assert scl.pp.match_genes(pd.Series(["a"]), make(["A", "B"]), aliases={}).tolist() == ["A"]


@pytest.mark.parametrize("reference", ["A", pd.DataFrame({"gene": ["A"]})])
def test_one_name_or_a_table_is_no_reference(reference, refuses):
    with refuses(errors.WrongType, name="reference"):
        scl.pp.match_genes(pd.Series(["a"]), reference, aliases={})
