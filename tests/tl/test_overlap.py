from itertools import product

import numpy as np
import pandas as pd
import pytest

from semiclip.tl import gains_losses, overlap, region

# Figure 5 as printed: gains, losses and preservation relative to transcriptomics, and the total
PRINTED = {"kd": (59, 39, 22, 81), "shake": (44, 28, 33, 77), "vicreg": (50, 30, 32, 82), "semiclip": (36, 5, 56, 92)}
FIVE = ["a", "b", "c", "d", "e"]


def pairs(n, **columns):
    return pd.DataFrame({"gene_a": "A", "gene_b": [f"B{i:04}" for i in range(n)], "databases": "CORUM", **columns})


def counted(gains, losses, preserved):
    """Sets with these counts, and pairs that neither recalls."""
    distilled = np.repeat([True, False, True, False], [gains, losses, preserved, 7])
    tx = np.repeat([False, True, True, False], [gains, losses, preserved, 7])
    return pairs(len(tx), tx=tx, distilled=distilled).sample(frac=1, random_state=0)


@pytest.fixture
def sets():
    """Five random sets of pairs of twenty genes."""
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(20, 1)
    genes = np.array([f"G{i:02}" for i in range(20)])
    table = pd.DataFrame({"gene_a": genes[first], "gene_b": genes[second], "databases": "CORUM"})
    return table.assign(
        **{name: rng.random(len(table)) < share for name, share in zip(FIVE, (0.4, 0.3, 0.3, 0.2, 0.1), strict=True)}
    )


@pytest.mark.parametrize("method", PRINTED)
def test_identities_of_figure_5(method):
    gains, losses, preserved, total = PRINTED[method]
    (row,) = gains_losses(counted(gains, losses, preserved), base="tx").to_dict("records")
    assert row == {
        "representation": "distilled",
        "base": "tx",
        "preserved": preserved,
        "gains": gains,
        "losses": losses,
        "total": total,
        "base_total": losses + preserved,
    }
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
    found = table[["gains", "losses", "preserved", "total"]].apply(tuple, axis=1).to_dict()
    assert {name for name in PRINTED if found[name] != PRINTED[name]} == {"vicreg"}
    assert found["vicreg"] == (50, 30, 31, 81)


def test_seven_regions_sum_to_the_union(sets):
    table = overlap(sets, representations=["a", "b", "c"])
    assert table[["a", "b", "c"]].to_numpy(int).tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 0],
        [1, 0, 1],
        [0, 1, 1],
        [1, 1, 1],
    ]
    assert table["n_pairs"].sum() == sets[["a", "b", "c"]].any(axis=1).sum()
    for name in "abc":
        assert table.loc[table[name], "n_pairs"].sum() == sets[name].sum()


def test_five_sets_equal_a_plain_loop(sets):
    table = overlap(sets)
    assert list(table) == [*FIVE, "n_pairs", "n_genes"]
    assert len(table) == 31
    assert list(table.index) == list(range(31))
    assert (table["n_pairs"] == 0).any()
    assert all(table[name].dtype == bool for name in FIVE)
    memberships = table[FIVE].apply(tuple, axis=1)
    expected = sorted(product([False, True], repeat=5), key=lambda row: (sum(row), [not inside for inside in row]))[1:]
    assert list(memberships) == expected
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
    two = overlap(sets, representations=["b", "a"]).set_index(["b", "a"])["n_pairs"]
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
    expected = table.set_index("representation").loc[["e", "a"]].reset_index()
    pd.testing.assert_frame_equal(some, expected)


def test_a_region_does_not_ask_about_the_others(sets):
    found = region(sets.set_index(np.arange(len(sets)) + 5), inside=["a", "b"], outside="c")
    expected = sets[sets["a"] & sets["b"] & ~sets["c"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
    assert len(region(sets, inside="a")) == sets["a"].sum()


def test_sets_without_pairs_have_empty_regions(sets):
    none = sets.assign(**dict.fromkeys(FIVE, False))
    for empty in (none, none[:0]):
        assert (overlap(empty)[["n_pairs", "n_genes"]] == 0).all(axis=None)
        assert (gains_losses(empty, base="a").iloc[:, 2:] == 0).all(axis=None)
        assert list(region(empty, inside="a")) == list(sets)


def test_nothing_is_changed(sets):
    before = sets.copy()
    overlap(sets)
    gains_losses(sets, base="a")
    found = region(sets, inside="a")
    found["a"] = False
    pd.testing.assert_frame_equal(sets, before)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: overlap(t, representations=[]), ValueError, "there is no representation among the columns"),
        (
            lambda t: overlap(t, representations=["a", "z"]),
            KeyError,
            "sets has no representation z, only a, b, c, d, e",
        ),
        (lambda t: overlap(t.assign(cosine=0.5)), ValueError, r"column\(s\) cosine are not true or false"),
        (
            lambda t: overlap(t.rename(columns={"a": "n_pairs"})),
            ValueError,
            "a representation is called n_pairs, which is a column of the result; rename",
        ),
        (
            lambda t: overlap(t.assign(**{f"r{i}": t["a"] for i in range(12)})),
            ValueError,
            "17 representations make 131,071 regions; choose at most 16",
        ),
        (lambda t: gains_losses(t, base="z"), KeyError, "sets has no representation z, only a, b, c, d, e"),
        (
            lambda t: gains_losses(t, base="a", representations="z"),
            KeyError,
            "sets has no representation z, only a, b, c, d, e",
        ),
        (
            lambda t: gains_losses(t, base="a", representations=["a"]),
            ValueError,
            "no representation to compare with the base 'a'; at least two are needed",
        ),
        (lambda t: region(t, inside=[]), ValueError, "inside names no representation; choose at least one of a, b"),
        (
            lambda t: region(t, inside=["a", "b"], outside=["b", "c"]),
            ValueError,
            "b is in both inside and outside, where no pair can be",
        ),
        (lambda t: region(t, inside="a", outside="z"), KeyError, "sets has no representation z"),
    ],
)
def test_refuses(sets, call, error, message):
    with pytest.raises(error, match=message):
        call(sets)
