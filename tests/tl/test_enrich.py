from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests

import semiclip as scl
from semiclip import errors
from semiclip.tl import enrich, region

GENES = [f"G{i:02}" for i in range(40)]
COLUMNS = ["gene_set", "n_overlap", "n_region", "n_set", "n_background"]
COLUMNS += ["expected", "fold", "p_value", "p_adjusted", "genes"]
ENDS = ["gene_set", "n_overlap", "fold", "expected", "p_value", "p_adjusted"]
WORDS = ["recalled", "map", "inside"]
REGION = {"inside": "distilled", "outside": ["tx", "image"]}


@pytest.fixture
def sets():
    """A third of all pairs of forty genes, and three representations that recall few of them."""
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(40, 1)
    kept = rng.random(len(first)) < 0.3
    table = pd.DataFrame({"gene_a": np.array(GENES)[first[kept]], "gene_b": np.array(GENES)[second[kept]]})
    names = ("tx", "image", "distilled")
    return table.assign(databases="CORUM", **{name: rng.random(len(table)) < 0.15 for name in names})


@pytest.fixture
def gene_sets():
    """Sets of 1 to 19 genes, some of which are in no pair."""
    rng = np.random.default_rng(1)
    labels = [*GENES, "absent", "missing"]
    return {f"set{i}": rng.choice(labels, size=rng.integers(1, 20), replace=False).tolist() for i in range(30)}


def naive(sets, gene_sets, background, level, min_size=3):
    """The same test with Python's sets, one gene set at a time."""
    listed = sets[["gene_a", "gene_b"]].apply(frozenset, axis=1)
    in_region = sets["distilled"] & ~sets["tx"] & ~sets["image"]
    if isinstance(background, str):
        inside = {
            "recalled": sets[["tx", "image", "distilled"]].any(axis=1),
            "map": sets["tx"].notna(),
            "inside": sets["distilled"],
            "distilled": sets["distilled"],
        }
        pairs = set(listed[inside[background]])
        genes = set().union(*pairs)
    else:
        genes = set(background)
        pairs = {pair for pair in listed if pair <= genes}
    drawn = set(listed[in_region])
    if level == "gene":
        universe, drawn = genes, set().union(*drawn) & genes
        members = {name: set(members) & universe for name, members in gene_sets.items()}
    else:
        universe, drawn = pairs, drawn & pairs
        members = {name: {pair for pair in universe if pair <= set(of)} for name, of in gene_sets.items()}
    rows = []
    for name, of in members.items():
        if len(of) < min_size:
            continue
        x, n, k, total = len(of & drawn), len(drawn), len(of), len(universe)
        p = fisher_exact([[x, n - x], [k - x, total - n - k + x]], alternative="greater").pvalue
        genes = of & drawn if level == "gene" else set().union(*(of & drawn))
        rows.append((name, x, n, k, total, n * k / total, x / (n * k / total), p, ";".join(sorted(genes))))
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "p_adjusted"])
    table.insert(8, "p_adjusted", multipletests(table["p_value"], method="fdr_bh")[1])
    return table


@pytest.mark.parametrize("level", ["gene", "pair"])
@pytest.mark.parametrize(
    "background", ["recalled", "map", "inside", "distilled", [*GENES[:30], "G01", "G02", "elsewhere", "nowhere"]]
)
def test_equals_fishers_test_and_statsmodels(sets, gene_sets, background, level):
    before, sets_before = sets.copy(), {name: list(genes) for name, genes in gene_sets.items()}
    table = enrich(sets, **REGION, gene_sets=gene_sets, background=background, level=level)
    pd.testing.assert_frame_equal(sets, before)
    assert gene_sets == sets_before
    assert [*list(table)[:3], *list(table)[-3:]] == ENDS
    assert table["p_value"].is_monotonic_increasing
    expected = naive(sets, gene_sets, background, level)
    assert 5 < len(expected) < 30
    assert expected["n_overlap"].max() > 1
    table = table.sort_values("gene_set", ignore_index=True)
    expected = expected.sort_values("gene_set", ignore_index=True)
    pd.testing.assert_frame_equal(table[COLUMNS], expected, rtol=1e-9, check_dtype=False)


def test_equals_gseapy(sets, gene_sets):
    gseapy = pytest.importorskip("gseapy")
    background = sorted(set(sets["gene_a"]) | set(sets["gene_b"]))
    pairs = region(sets, **REGION)
    query = sorted({*pairs["gene_a"], *pairs["gene_b"]})
    # gseapy leaves sets without an overlap out of its table and of the adjustment
    inside = {name: sorted(set(of) & set(background)) for name, of in gene_sets.items()}
    tested = {name: of for name, of in inside.items() if len(of) > 2 and set(of) & set(query)}
    expected = gseapy.enrich(query, gene_sets=tested, background=background, outdir=None, no_plot=True).results
    expected = expected.set_index("Term").sort_index()
    table = enrich(sets, **REGION, gene_sets=tested, background="map").set_index("gene_set").sort_index()
    assert list(table.index) == list(expected.index)
    np.testing.assert_allclose(table["p_value"], expected["P-value"], rtol=1e-9)
    np.testing.assert_allclose(table["p_adjusted"], expected["Adjusted P-value"], rtol=1e-9)
    assert list(table["n_overlap"].astype(str) + "/" + table["n_set"].astype(str)) == list(expected["Overlap"])
    assert list(table["genes"]) == [";".join(sorted(genes.split(";"))) for genes in expected["Genes"]]


def test_a_gene_counts_once_however_many_pairs_it_is_in_and_a_set_names_it():
    star = pd.DataFrame({"gene_a": "HUB", "gene_b": ["A", "B", "C", "D"], "x": [True, True, True, False]})
    options = {"inside": "x", "gene_sets": {"hub": ["HUB", "A", "D", "HUB"]}, "background": "map", "min_size": 2}
    for level, counts in (("gene", [2, 4, 3, 5]), ("pair", [1, 3, 2, 4])):
        table = enrich(star, level=level, **options)
        columns = ["n_overlap", "n_region", "n_set", "n_background", "genes"]
        assert table[columns].to_numpy().tolist() == [[*counts, "A;HUB"]]


def test_a_planted_complex_is_found(sets):
    complexes = {f"c{i}": GENES[i : i + 4] for i in range(0, 40, 4)}
    planted = sets["gene_a"].isin(complexes["c8"]) & sets["gene_b"].isin(complexes["c8"])
    table = enrich(sets.assign(distilled=planted), inside="distilled", gene_sets=complexes, background="map")
    assert table.loc[0, "gene_set"] == "c8"
    assert table.loc[0, "p_adjusted"] < 0.05
    assert (table.loc[1:, ["p_value", "p_adjusted"]] == 1).all(axis=None)
    assert (table.loc[1:, "n_overlap"] == 0).all()


@pytest.mark.parametrize("level", ["gene", "pair"])
@pytest.mark.parametrize(("background", "names"), [("recalled", ["tx", "image", "distilled"]), ("tx", ["tx"])])
def test_the_background_may_be_what_representations_recall(sets, gene_sets, background, names, level):
    recalled = sets[sets[names].any(axis=1)]
    options = {"gene_sets": gene_sets, "level": level, "min_size": 1, "inside": "tx"}
    table = enrich(sets, background=background, **options)
    pd.testing.assert_frame_equal(table, enrich(recalled, background="map", **options))
    genes = {*recalled["gene_a"], *recalled["gene_b"]}
    assert (table["n_background"] == (len(genes) if level == "gene" else len(recalled))).all()


@pytest.mark.parametrize("level", ["gene", "pair"])
def test_a_region_of_several_is_drawn_from_what_all_of_them_recall(sets, gene_sets, level):
    """The region (distilled and image, not tx) among the pairs of both, or of the one that was distilled (Table 3)."""
    options = {"gene_sets": gene_sets, "level": level, "min_size": 1, "inside": ["distilled", "image"], "outside": "tx"}
    wide = sets.assign(image=sets["image"] | (sets.index % 9 == 0), distilled=sets["distilled"] | (sets.index % 3 == 0))
    table = enrich(wide, background="inside", **options)
    both = wide[wide["distilled"] & wide["image"]]
    pd.testing.assert_frame_equal(table, enrich(both, background="map", **options))
    of_one = enrich(wide, background="distilled", **options)
    pd.testing.assert_frame_equal(of_one, enrich(wide[wide["distilled"]], background="map", **options))
    assert (of_one["n_region"] == table["n_region"][0]).all()
    for counted, pairs in ((table, both), (of_one, wide[wide["distilled"]])):
        n = len({*pairs["gene_a"], *pairs["gene_b"]}) if level == "gene" else len(pairs)
        assert (counted["n_background"] == n).all()
    assert of_one["n_background"][0] > table["n_background"][0] > table["n_region"][0]


@pytest.mark.parametrize("level", ["gene", "pair"])
def test_what_is_left_out_of_the_region_is_logged(sets, gene_sets, level, caplog):
    caplog.set_level("INFO", logger="semiclip")
    enrich(sets, **REGION, gene_sets=gene_sets, background="map", level=level)
    assert not caplog.messages
    table = enrich(sets, **REGION, gene_sets=gene_sets, background=GENES[:30], level=level, min_size=1)
    pairs, n_left = region(sets, **REGION), table["n_region"][0]
    whole = len({*pairs["gene_a"], *pairs["gene_b"]}) if level == "gene" else len(pairs)
    assert 0 < n_left < whole
    assert caplog.records[0].args == (whole - n_left, whole, level)


def test_a_representation_called_like_a_background_is_ambiguous(sets, gene_sets, refuses):
    renamed, options = sets.rename(columns={"tx": "map"}), {"inside": "distilled", "gene_sets": gene_sets}
    with refuses(errors.NameTaken, items="map"):
        enrich(renamed, **options, background="map")
    pd.testing.assert_frame_equal(enrich(renamed, **options), enrich(sets, **options))


def test_random_regions_are_enriched_at_the_level_of_genes_but_not_of_pairs():
    """The pairs of a complex bring their genes in together."""
    rng = np.random.default_rng(0)
    complexes = {f"c{i}": [f"c{i}.{j}" for j in range(6)] for i in range(20)}
    pairs = [(a, b) for genes in complexes.values() for a, b in combinations(genes, 2)]
    sets = pd.DataFrame(pairs, columns=["gene_a", "gene_b"])
    share = {"gene": [], "pair": []}
    for _ in range(20):
        random = sets.assign(x=rng.permutation(len(sets)) < 15)
        for level, shares in share.items():
            table = enrich(random, inside="x", gene_sets=complexes, background="map", level=level)
            assert len(table) == 20
            shares.append((table["p_value"] <= 0.05).mean())
    assert np.mean(share["pair"]) < 0.05
    assert np.mean(share["gene"]) > 0.1


def test_an_empty_region_gives_an_empty_table(sets, gene_sets):
    full = enrich(sets, **REGION, gene_sets=gene_sets)
    for nothing in (sets.assign(distilled=False), sets[:0], sets.assign(tx=False, image=False, distilled=False)):
        table = enrich(nothing, **REGION, gene_sets=gene_sets)
        assert table.empty
        assert list(table) == list(full)
        assert (table.dtypes == full.dtypes).all()


def test_gene_sets_by_name_and_by_path(data_dir):
    path = data_dir / "genesets" / "h.all.v7.0.symbols.gmt"
    genes = scl.datasets.gene_sets("hallmark")["HALLMARK_DNA_REPAIR"]
    sets = pd.DataFrame({"gene_a": genes[:20], "gene_b": genes[20:40], "x": True, "y": True})
    elsewhere = pd.DataFrame({"gene_a": [f"a{i}" for i in range(300)], "gene_b": [f"b{i}" for i in range(300)]})
    sets = pd.concat([sets, elsewhere.assign(x=False, y=True)], ignore_index=True)
    table = enrich(sets, inside="x", gene_sets="hallmark", background="map")
    assert table.loc[0, "gene_set"] == "HALLMARK_DNA_REPAIR"
    assert table.loc[0, ["n_overlap", "n_region", "n_set", "n_background"]].tolist() == [40, 40, 40, 640]
    for same in (path, str(path)):
        pd.testing.assert_frame_equal(table, enrich(sets, inside="x", gene_sets=same, background="map"))
    reactome = enrich(sets, inside="x", gene_sets="reactome", background="map")
    assert reactome.loc[0, "p_adjusted"] < 1e-10
    assert reactome["gene_set"].is_unique


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"level": "guide"}, errors.UnknownChoice, {"name": "level", "choices": ["gene", "pair"]}),
        ({"min_size": 0}, errors.BadValue, {"name": "min_size", "value": 0}),
        (
            {"background": "all"},
            errors.UnknownChoice,
            {"choices": [*WORDS, "tx", "image", "distilled"]},
        ),
        ({"background": ["ENSG1", "ENSG2"]}, errors.NothingShared, {"what": "gene", "other": ["ENSG1", "ENSG2"]}),
        ({"background": [], "level": "pair"}, errors.NothingShared, {"what": "pair", "other": []}),
        ({"background": "tx", "level": "pair"}, errors.NothingShared, {"what": "pair"}),
        ({"inside": []}, errors.BadValue, {"name": "inside"}),
        ({"inside": "tx"}, errors.Repeated, {"items": ["tx"]}),
        ({"outside": "other"}, errors.MissingEntry, {"key": ["other"]}),
        ({"gene_sets": "kegg"}, FileNotFoundError, {}),
        ({"gene_sets": ["G01", "G02"]}, errors.WrongType, {"name": "gene_sets", "got": list}),
        ({"gene_sets": {"one": "G01"}}, errors.WrongType, {"name": "gene_sets['one']", "got": str}),
        ({"gene_sets": {"one": ["G01"], "a": None}}, errors.WrongType, {"name": "gene_sets['a']"}),
        ({"gene_sets": {"one": ["ENSG1"]}}, errors.TooFew, {"number": 0, "needed": 3}),
        ({"gene_sets": {}}, errors.TooFew, {"number": 0}),
        ({"level": "pair", "min_size": 99}, errors.TooFew, {"needed": 99}),
    ],
)
def test_refuses(sets, gene_sets, refuses, change, error, data):
    with refuses(error, **data):
        enrich(sets, **{**REGION, "gene_sets": gene_sets, **change})


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        (lambda table: pd.concat([table, table.head(1)]), errors.Repeated, {"items": ["A"]}),
        (lambda table: table.assign(gene=["A", None, "C"]), errors.MissingValues, {"rows": [1]}),
        (
            lambda table: table.assign(top=pd.array([True, False, None], dtype="boolean")),
            errors.MissingValues,
            {"where": "the table of genes", "rows": [2]},
        ),
        (lambda table: table.assign(top=[1, 0, 1]), errors.Refused, {"items": ["top"]}),
        (lambda table: table.assign(top=["yes", "no", "no"]), errors.Refused, {"items": ["top"]}),
        (lambda table: table.set_index("gene"), errors.MissingColumn, {"key": "gene", "where": "the table of genes"}),
        (lambda table: table.drop(columns="top"), errors.MissingColumn, {"key": ["top"]}),
    ],
)
def test_refuses_tables_of_genes(refuses, change, error, data):
    table = pd.DataFrame({"gene": ["A", "B", "C"], "top": [True, False, False]})
    enrich(table, inside="top", gene_sets={"all": ["A", "B", "C"]})
    with refuses(error, **data):
        enrich(change(table), inside="top", gene_sets={"all": ["A", "B", "C"]})


def test_a_table_of_genes_may_use_pandas_own_booleans():
    table = pd.DataFrame({"gene": ["A", "B", "C", "D"], "top": [True, True, False, False]})
    sets = {"one": ["A", "B", "C"]}
    nullable = table.astype({"top": "boolean"})
    pd.testing.assert_frame_equal(
        enrich(nullable, inside="top", gene_sets=sets), enrich(table, inside="top", gene_sets=sets)
    )
