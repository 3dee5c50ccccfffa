from itertools import product

import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.tl import enrich, gains_losses, overlap, region

# Figure 5 as printed: gains, losses and preservation relative to transcriptomics, and the total
PRINTED = {"kd": (59, 39, 22, 81), "shake": (44, 28, 33, 77), "vicreg": (50, 30, 32, 82), "semiclip": (36, 5, 56, 92)}
FIVE = ["a", "b", "c", "d", "e"]
SWAP = {"gene_a": "gene_b", "gene_b": "gene_a"}


def pairs(n, **columns):
    return pd.DataFrame({"gene_a": "A", "gene_b": [f"B{i:04}" for i in range(n)], "databases": "CORUM", **columns})


@pytest.fixture
def sets():
    """Five random sets of pairs of twenty genes."""
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(20, 1)
    genes = np.array([f"G{i:02}" for i in range(20)])
    table = pd.DataFrame({"gene_a": genes[first], "gene_b": genes[second], "databases": "CORUM"})
    shares = dict(zip(FIVE, (0.4, 0.3, 0.3, 0.2, 0.1), strict=True))
    return table.assign(**{name: rng.random(len(table)) < share for name, share in shares.items()})


@pytest.mark.parametrize("method", PRINTED)
def test_identities_of_figure_5(method):
    gains, losses, preserved, total = PRINTED[method]
    numbers = [gains, losses, preserved, 7]  # and pairs that neither recalls
    distilled, tx = np.repeat([True, False, True, False], numbers), np.repeat([False, True, True, False], numbers)
    table = pairs(len(tx), tx=tx, distilled=distilled).sample(frac=1, random_state=0)
    (row,) = gains_losses(table, base="tx").to_dict("records")
    expected = {"representation": "distilled", "base": "tx", "preserved": preserved, "gains": gains, "losses": losses}
    assert row == {**expected, "total": total, "base_total": losses + preserved}
    assert row["total"] == row["gains"] + row["preserved"]
    assert row["base_total"] == {"vicreg": 62}.get(method, 61)  # the printed column is off by one


def test_the_printed_columns_cannot_all_belong_to_one_base():
    """With the 61 pairs of the other methods, what VICReg loses and keeps cannot be 30 and 32."""
    tx = np.repeat([True, False], [61, 59])
    columns = {}
    for name, (gains, losses, _, _) in PRINTED.items():
        columns[name] = np.repeat([False, True, False], [losses, 61 - losses + gains, 59 - gains])
    table = gains_losses(pairs(120, tx=tx, **columns), base="tx").set_index("representation")
    assert (table["base_total"] == 61).all()
    counts = table[["gains", "losses", "preserved", "total"]].apply(tuple, axis=1).to_dict()
    assert {name for name in PRINTED if counts[name] != PRINTED[name]} == {"vicreg"}
    assert counts["vicreg"] == (50, 30, 31, 81)


def test_five_sets_equal_a_plain_loop(sets):
    before = sets.copy()
    table = overlap(sets)
    selected = region(sets, inside="a")
    selected["a"] = False
    pd.testing.assert_frame_equal(sets, before)
    assert list(table) == [*FIVE, "n_pairs", "n_genes"]
    assert list(table.index) == list(range(31))
    assert (table["n_pairs"] == 0).any()
    assert table["n_pairs"].sum() == sets[FIVE].any(axis=1).sum()
    assert all(table[name].dtype == bool for name in FIVE)
    expected = sorted(product([False, True], repeat=5), key=lambda row: (sum(row), [not inside for inside in row]))[1:]
    assert list(table[FIVE].apply(tuple, axis=1)) == expected
    for row in table.to_dict("records"):
        rows = sets[(sets[FIVE] == [row[name] for name in FIVE]).all(axis=1)]
        assert row["n_pairs"] == len(rows)
        assert row["n_genes"] == len({*rows["gene_a"], *rows["gene_b"]})
        names = {name for name in FIVE if row[name]}
        inside = region(sets, inside=sorted(names), outside=sorted(set(FIVE) - names))
        pd.testing.assert_frame_equal(inside, rows.reset_index(drop=True))


def test_one_set_and_two(sets):
    one = overlap(sets, representations="b")
    assert one.to_dict("records") == [{"b": True, "n_pairs": sets["b"].sum(), "n_genes": 20}]
    two = overlap(sets, representations=["b", "a", "b"]).set_index(["b", "a"])["n_pairs"]
    change = gains_losses(sets, base="a", representations="b").loc[0]
    assert two[True, True] == change["preserved"]
    assert two[True, False] == change["gains"]
    assert two[False, True] == change["losses"]


def test_gains_and_losses_of_all_others_or_of_some(sets):
    table = gains_losses(sets, base="c")
    assert list(table["representation"]) == ["a", "b", "d", "e"]
    assert list(table.columns)[2:] == ["preserved", "gains", "losses", "total", "base_total"]
    assert (table["total"] == sets[["a", "b", "d", "e"]].sum().to_numpy()).all()
    some = gains_losses(sets, base="c", representations=["e", "c", "a"])
    pd.testing.assert_frame_equal(some, table.set_index("representation").loc[["e", "a"]].reset_index())


def test_a_region_ignores_the_other_representations(sets):
    inside = region(sets.set_index(np.arange(len(sets)) + 5), inside=["a", "b"], outside="c")
    pd.testing.assert_frame_equal(inside, sets[sets["a"] & sets["b"] & ~sets["c"]].reset_index(drop=True))
    assert len(region(sets, inside="a")) == sets["a"].sum()


def test_the_order_of_genes_and_the_kind_of_booleans_do_not_matter(sets):
    expected = overlap(sets)
    swapped = sets.rename(columns=SWAP)
    merged = sets.drop(columns="a").merge(sets.drop(columns=FIVE[1:]))[list(sets)]
    for same in (swapped, merged, *(sets.astype(dict.fromkeys(FIVE, kind)) for kind in ("boolean", object))):
        pd.testing.assert_frame_equal(overlap(same), expected)


def test_sets_without_pairs_have_empty_regions(sets):
    none = sets.assign(**dict.fromkeys(FIVE, False))
    for empty in (none, none[:0], none[:0].astype({"a": object})):
        assert (overlap(empty)[["n_pairs", "n_genes"]] == 0).all(axis=None)
        assert (gains_losses(empty, base="a").iloc[:, 2:] == 0).all(axis=None)
        assert list(region(empty, inside="a")) == list(sets)


READERS = [overlap, lambda sets: gains_losses(sets, base="a"), lambda sets: region(sets, inside="a")]
READERS.append(lambda sets: enrich(sets, inside="a", gene_sets={"x": ["G01", "G02", "G03"]}))


@pytest.mark.parametrize("function", READERS)
@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        (lambda t: t.drop(columns="gene_b"), errors.MissingColumn, {"key": ["gene_b"]}),
        (lambda t: t[["gene_a", "gene_b", "databases"]], errors.Empty, {}),
        (lambda t: t.assign(cosine=0.5), errors.Refused, {"items": ["cosine"]}),
        (lambda t: t.assign(a=1), errors.Refused, {"items": ["a"]}),
        (lambda t: t.assign(a=t["a"].where(t.index > 0)), errors.MissingValues, {"rows": [0]}),
        (lambda t: t.assign(gene_b=t["gene_b"].where(t.index != 3)), errors.MissingValues, {"rows": [3]}),
        (lambda t: pd.concat([t, t[:1]]), errors.Repeated, {"items": ["G00–G01"]}),
        (lambda t: pd.concat([t, t[:1].rename(columns=SWAP)]), errors.Repeated, {"items": ["G01–G00"]}),
    ],
)
def test_refuses_a_table_that_is_something_else(sets, refuses, function, change, error, data):
    with refuses(error, **data):
        function(change(sets))


@pytest.mark.parametrize("wrong", ["z", "gene_a", "databases"])
def test_refuses_representations_that_do_not_exist(sets, refuses, wrong):
    for call in (
        lambda: overlap(sets, representations=["a", wrong]),
        lambda: gains_losses(sets, base=wrong),
        lambda: gains_losses(sets, base="a", representations=wrong),
        lambda: region(sets, inside=wrong),
        lambda: region(sets, inside="a", outside=wrong),
    ):
        with refuses(errors.MissingEntry, key=[wrong], there=FIVE):
            call()


@pytest.mark.parametrize(
    ("call", "error", "data"),
    [
        (lambda t: overlap(t, representations=[]), errors.BadValue, {"name": "representations"}),
        (lambda t: overlap(t.rename(columns={"a": "n_pairs"})), errors.NameTaken, {"items": ["n_pairs"]}),
        (lambda t: overlap(t.assign(**{f"r{i}": t["a"] for i in range(12)})), errors.TooMany, {"number": 17}),
        (lambda t: gains_losses(t, base="a", representations=["a"]), errors.TooFew, {"number": 0}),
        (lambda t: region(t, inside=[]), errors.BadValue, {"name": "inside"}),
        (lambda t: region(t, inside=["a", "b"], outside=["b", "c"]), errors.Repeated, {"items": ["b"]}),
    ],
)
def test_refuses(sets, refuses, call, error, data):
    with refuses(error, **data):
        call(sets)
