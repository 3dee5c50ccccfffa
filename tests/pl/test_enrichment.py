import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import pl

NAMES = [
    "HALLMARK_TNFA_SIGNALING_VIA_NFKB",
    "Cell Cycle",
    "Respiratory electron transport, ATP synthesis by chemiosmotic coupling, and heat production by uncouplers",
]


@pytest.fixture
def table():
    names = NAMES + [f"gene set {i}" for i in range(9)]
    p = np.logspace(-5, -0.2, 12)
    counts = {"n_overlap": np.arange(12, 0, -1), "n_set": np.arange(40, 28, -1)}
    return pd.DataFrame({"gene_set": names, "p_value": p, "p_adjusted": np.minimum(1, 4 * p)} | counts)


def shares(ax):
    return [text.get_text() for text in ax.texts if "/" in text.get_text()]


def dots(ax):
    return ax.collections[-1]


@pytest.mark.parametrize("adjusted", [True, False])
def test_dots_counts_and_levels(table, adjusted):
    ax = pl.enrichment(table.sample(frac=1, random_state=0), adjusted=adjusted)
    best = table.iloc[:10]
    at, rows = dots(ax).get_offsets().T
    np.testing.assert_allclose(at, -np.log10(best["p_adjusted" if adjusted else "p_value"]))
    np.testing.assert_array_equal(rows, range(10))
    np.testing.assert_allclose(dots(ax).get_sizes() / best["n_overlap"], 7.5)
    assert shares(ax) == [f"{n}/{of}" for n, of in zip(best["n_overlap"], best["n_set"], strict=True)]
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.lines], [-np.log10(0.05), 2])
    assert [text.get_text().strip() for text in ax.texts[:2]] == ["p = 0.05", "0.01"]
    assert ax.get_xlabel() == f"−log₁₀ {'adjusted p' if adjusted else 'p'}\n10 of 12 gene sets"
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the best stands on top"


def test_long_names_are_broken_and_shortened(table):
    names = [label.get_text() for label in pl.enrichment(table).get_yticklabels()]
    assert names[0].split() == ["HALLMARK", "TNFA", "SIGNALING", "VIA", "NFKB"]
    assert names[1] == "Cell Cycle"
    assert names[2].startswith("Respiratory electron")
    assert names[2].endswith("…")
    assert names[2].count("\n") == 1


def test_fewer_gene_sets_than_asked_for(table):
    ax = pl.enrichment(table.iloc[:3], n_top=5)
    assert ax.get_xlabel() == "−log₁₀ adjusted p"
    assert len(pl.enrichment(table, n_top=1).get_yticks()) == 1


def test_the_smallest_and_the_largest_p(table):
    ax = pl.enrichment(table.iloc[:2].assign(p_adjusted=[0, 1]))
    at = dots(ax).get_offsets()[:, 0]
    assert at.tolist() == [pytest.approx(-np.log10(np.finfo(float).tiny)), 0]
    assert not np.signbit(at[1])


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
@pytest.mark.parametrize("n_top", [2, 10])
def test_nothing_is_cut_or_hidden(table, size, n_top, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    assert_legible(pl.enrichment(table, ax=ax, n_top=n_top))


def test_draws_on_given_axes_and_changes_nothing(table):
    before = table.copy()
    figure, ax = plt.subplots()
    assert pl.enrichment(table, ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(TypeError, match="draw what scl.tl.enrich returns"):
        pl.enrichment({})
    with pytest.raises(KeyError, match="no column p_adjusted; draw what scl.tl.enrich returns"):
        pl.enrichment(table.drop(columns="p_adjusted"))
    with pytest.raises(
        ValueError, match="no gene set, since the region is empty or shares too few genes with each, so"
    ):
        pl.enrichment(table.iloc[:0])
    with pytest.raises(ValueError, match="n_top=0: draw at least one gene set"):
        pl.enrichment(table, n_top=0)
    with pytest.raises(ValueError, match="column 'p_adjusted' is not between 0 and 1 for Cell Cycle"):
        pl.enrichment(table.assign(p_adjusted=table["p_adjusted"].where(table.index != 1, 2)))
    with pytest.raises(ValueError, match="column 'p_value' has no value"):
        pl.enrichment(table.assign(p_value=np.nan))
    assert plt.get_fignums() == []
