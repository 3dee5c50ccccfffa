import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from semiclip import pl

# the counts that the paper prints for Figure 5, against 61 pairs
COUNTS = {"preserved": [52, 44, 40], "gains": [29, 33, 42], "losses": [9, 17, 21]}


@pytest.fixture
def table():
    table = pd.DataFrame({"representation": ["Semi-Clipped", "KD", "VICReg"], "base": "X_scvi"} | COUNTS)
    total, base_total = table["preserved"] + table["gains"], table["preserved"] + table["losses"]
    return table.assign(total=total, base_total=base_total)


def written(ax):
    return [text.get_text() for text in ax.texts]


def test_bars_counts_and_sums(table):
    ax = pl.gains_losses(table)
    preserved, gains, losses = (
        [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in part] for part in ax.containers
    )
    np.testing.assert_allclose(preserved, [(0, n) for n in table["preserved"]])
    np.testing.assert_allclose(gains, list(zip(table["preserved"], table["total"], strict=True)))
    np.testing.assert_allclose(losses, [(-n, 0) for n in table["losses"]])
    assert written(ax) == ["52 + 29 = 81", "44 + 33 = 77", "40 + 42 = 82", "9", "17", "21"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Semi-Clipped", "KD", "VICReg"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first stands on top"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["preserved", "gains", "losses"]
    assert " ".join(ax.get_xlabel().split()) == "Recalled pairs, compared with X_scvi (61)"
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert not any("-" in tick or "−" in tick for tick in ticks)
    assert all(-21 <= tick <= 82 for tick in ax.get_xticks())


def test_bases_of_different_sizes_are_not_named_as_one(table):
    assert pl.gains_losses(table.assign(losses=[9, 17, 22])).get_xlabel() == "Recalled pairs, compared with X_scvi"


def test_large_and_averaged_counts(table):
    ax = pl.gains_losses(table.assign(preserved=[5200, 4100, 1.5], gains=0, losses=0))
    assert written(ax)[0] == "5,200 + 0 = 5,200"
    assert written(ax)[2] == "1.5 + 0 = 1.5"
    assert written(pl.gains_losses(table.assign(preserved=0, gains=0, losses=0)))[::3] == ["0 + 0 = 0", "0"]


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
@pytest.mark.parametrize("factor", [1, 1000])
def test_nothing_is_cut_or_hidden(table, size, factor, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    table = table.assign(**{part: table[part] * factor for part in COUNTS})
    assert_legible(pl.gains_losses(table.replace("KD", "a rather long name"), ax=ax))


def test_draws_on_given_axes_in_given_colours_and_changes_nothing(table):
    before = table.copy()
    figure, ax = plt.subplots()
    for palette in (["blue", "lime", "red"], {"losses": "red", "gains": "lime", "preserved": "blue"}):
        ax.clear()
        assert pl.gains_losses(table, ax=ax, palette=palette) is ax
        for part, colour in zip(ax.containers, ["blue", "lime", "red"], strict=True):
            assert all(same_color(bar.get_facecolor(), colour) for bar in part)
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(TypeError, match="table is a dict, not a DataFrame; draw what scl.tl.gains_losses returns"):
        pl.gains_losses({})
    with pytest.raises(KeyError, match="no column gains; draw what scl.tl.gains_losses returns"):
        pl.gains_losses(table.drop(columns="gains"))
    with pytest.raises(ValueError, match="the table has no rows"):
        pl.gains_losses(table.iloc[:0])
    with pytest.raises(ValueError, match="several names as base, X_scvi, X_image; draw one at a time"):
        pl.gains_losses(table.assign(base=["X_scvi", "X_image", "X_scvi"]))
    with pytest.raises(ValueError, match="several values for KD of X_scvi"):
        pl.gains_losses(pd.concat([table, table.iloc[[1]]]))
    with pytest.raises(ValueError, match="column 'losses' has no value in 3"):
        pl.gains_losses(table.assign(losses=np.nan))
    with pytest.raises(ValueError, match="3 names .* 1 colours"):
        pl.gains_losses(table, palette=["red"])
    with pytest.raises(KeyError, match="palette has no colour for gains, losses"):
        pl.gains_losses(table, palette={"preserved": "red"})
    assert plt.get_fignums() == []
