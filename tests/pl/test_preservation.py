import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

SEEN, UNSEEN = "seen perturbations", "unseen perturbations"
DECODERS = {
    "X_scvi": (0.6, 0.4),
    "X_semiclip": (0.7, 0.3),
    "random": (0.48, -0.1),
    "constant": (0.5, 0),
    "PCA": (1, 0.5),
}
PARTS = ["structural integrity × 100", "Spearman per gene × 100", "score (mean of both)"]


def run(luck=0.0):
    """Make what tl.preservation returns."""
    rows = []
    for key, better in ((SEEN, 0.05), (UNSEEN, 0)):
        for name, (integrity, spearman) in DECODERS.items():
            parts = (integrity + better - luck, spearman + better + 3 * luck)
            values = {
                "structural_integrity": parts[0],
                "spearman_gene": parts[1],
                "spearman_sample": 0.9,
                "preservation": 50 * sum(parts),
            }
            rows += [(metric, name, key, value, 200, 4, 0, 1) for metric, value in values.items()]
    counts = ["n_obs", "n_batches", "n_dropped_batches", "n_constant_genes"]
    return pd.DataFrame(rows, columns=["metric", "representation", "key", "value", *counts])


@pytest.fixture
def table():
    return run()


@pytest.fixture
def seeds():
    return pd.concat([run(luck).assign(seed=seed) for seed, luck in enumerate((-0.02, 0, 0.05))])


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def heights(ax):
    """Heights of the bars by the name in the legend."""
    bars = [container for container in ax.containers if hasattr(container, "patches")]
    return {bar.get_label(): np.array([one.get_height() for one in bar]) for bar in bars}


def errors(ax):
    bars = [container for container in ax.containers if hasattr(container, "patches")]
    ends = {bar.get_label(): bar.errorbar.lines[2][0].get_segments() for bar in bars if bar.errorbar is not None}
    return {name: np.array([np.ptp(one[:, 1]) / 2 for one in segments]) for name, segments in ends.items()}


def test_parts_and_score_on_one_scale(table):
    ax = pl.preservation(table)
    assert legend(ax) == ["random", "constant", "PCA", "X_scvi", "X_semiclip"]
    for name, (integrity, spearman) in DECODERS.items():
        expected = [100 * integrity, 100 * spearman, 50 * (integrity + spearman)]
        np.testing.assert_allclose(heights(ax)[name], expected, atol=1e-12)
        assert heights(ax)[name][2] == pytest.approx(heights(ax)[name][:2].mean())
    assert errors(ax) == {}
    labels = [" ".join(label.get_text().split()) for label in ax.get_xticklabels()]
    assert labels == PARTS
    assert (ax.get_xlabel(), ax.get_ylabel()) == (UNSEEN, "Preservation (perfect: 100)")
    assert ax.get_ylim()[0] < -10, "a negative correlation is shown"
    assert max(ax.get_yticks()) <= 100
    centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in ax.patches]).reshape(5, 3)
    np.testing.assert_allclose(centres.mean(axis=0), [0, 1, 2], atol=1e-12)


def test_baselines_are_grey_and_the_others_coloured(table):
    ax = pl.preservation(table)
    colours = np.array([bar.get_facecolor()[:3] for bar in ax.patches]).reshape(5, 3, 3)
    assert (np.ptp(colours[:3], axis=2) == 0).all()
    for i in (0, 1):
        np.testing.assert_allclose(colours[3 + i], [matplotlib.colors.to_rgb(OKABE_ITO[i])] * 3)
    greys_and_hatches = {(bar.get_facecolor(), bar.get_hatch()) for bar in ax.patches[:9]}
    assert len(greys_and_hatches) == 3
    ax = pl.preservation(table, palette={"X_semiclip": "red", "X_scvi": "blue"})
    assert [ax.patches[i].get_facecolor() for i in (9, 12)] == [matplotlib.colors.to_rgba(c) for c in ("blue", "red")]


def test_baselines_come_first_and_the_others_in_their_order(table):
    assert legend(pl.preservation(table.iloc[::-1])) == ["random", "constant", "PCA", "X_semiclip", "X_scvi"]


def test_the_other_test(table):
    ax = pl.preservation(table, key=SEEN)
    np.testing.assert_allclose(heights(ax)["X_scvi"], [65, 45, 55])
    assert ax.get_xlabel() == SEEN


def test_means_and_deviations_over_seeds(seeds):
    ax = pl.preservation(seeds)
    luck = np.array([-0.02, 0, 0.05])
    for name, (integrity, spearman) in DECODERS.items():
        parts = 100 * np.array([integrity - luck, spearman + 3 * luck])
        runs = np.vstack([parts, parts.mean(axis=0)])
        np.testing.assert_allclose(heights(ax)[name], runs.mean(axis=1))
        np.testing.assert_allclose(errors(ax)[name], runs.std(axis=1, ddof=1))
    assert ax.get_xlabel() == f"{UNSEEN}\nmean ± sd over 3 seeds"


def test_a_baseline_of_one_seed_has_no_deviation(seeds):
    ax = pl.preservation(seeds[(seeds["representation"] != "PCA") | (seeds["seed"] == 1)])
    assert set(errors(ax)) == set(DECODERS) - {"PCA"}
    assert ax.get_xlabel() == f"{UNSEEN}\nmean ± sd over seeds"
    assert pl.preservation(seeds[seeds["seed"] == 1]).get_xlabel() == UNSEEN


@pytest.mark.parametrize("dtype", ["category", "string"])
def test_types_of_names(table, dtype):
    typed = table.astype({"metric": dtype, "representation": dtype, "key": dtype, "value": "Float64"})
    for name, expected in heights(pl.preservation(table)).items():
        np.testing.assert_allclose(heights(pl.preservation(typed))[name], expected)


def test_only_baselines(table):
    ax = pl.preservation(table[table["representation"].isin(["constant", "PCA"])])
    assert legend(ax) == ["constant", "PCA"]


@pytest.mark.parametrize("size", [None, (3.2, 2.6), (9, 5)])
def test_nothing_is_cut_or_hidden(seeds, size):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = pl.preservation(seeds, ax=ax)
    figure = ax.figure
    figure.canvas.draw()
    for text in [*ax.get_xticklabels(), ax.xaxis.label, ax.yaxis.label, ax.get_legend()]:
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    over = ax.get_legend().get_window_extent()
    assert not any(bar.get_window_extent().overlaps(over) for bar in ax.patches)
    ticks = [label.get_tightbbox() for label in ax.get_xticklabels()]
    assert not any(left.overlaps(right) for left, right in zip(ticks, ticks[1:], strict=False))


def test_draws_on_given_axes_and_changes_nothing(seeds):
    before = seeds.copy()
    figure, ax = plt.subplots()
    assert pl.preservation(seeds, ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(seeds, before)


def test_refuses(table, seeds):
    with pytest.raises(TypeError, match=r"table is a list, not a DataFrame; draw what scl\.tl\.preservation returns"):
        pl.preservation([])
    with pytest.raises(KeyError, match=r"the table has no column metric, value; draw what scl\.tl\.preservation"):
        pl.preservation(table.drop(columns=["metric", "value"]))
    with pytest.raises(ValueError, match="the table has no rows"):
        pl.preservation(table.iloc[:0])
    with pytest.raises(KeyError, match="key='unseen' is not in the table, which has seen perturbations, uns"):
        pl.preservation(table, key="unseen")
    with pytest.raises(TypeError, match="column 'value' holds object values, not numbers"):
        pl.preservation(table.astype({"value": object}))
    with pytest.raises(ValueError, match=r"column 'value' has no value in 15 row\(s\): 0, 1, 3"):
        pl.preservation(table.assign(value=np.where(table["key"] == SEEN, np.nan, 1.0)), key=SEEN)
    with pytest.raises(ValueError, match="several values for structural_integrity of X_scvi, "):
        pl.preservation(seeds.drop(columns="seed"))
    with pytest.raises(ValueError, match="several values for structural_integrity of X_scvi of 0, "):
        pl.preservation(pd.concat([seeds, seeds]))
    with pytest.raises(
        ValueError, match="the table has no spearman_gene of X_scvi for unseen perturbations; draw what scl"
    ):
        pl.preservation(table.drop(index=21))
    with pytest.raises(ValueError, match="the table has no preservation of X_scvi, preservation of X_semiclip, "):
        pl.preservation(table[table["metric"] != "preservation"])
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.preservation(table, palette=["red"])
    with pytest.raises(KeyError, match="palette has no colour for X_scvi"):
        pl.preservation(table, palette={"X_semiclip": "red"})
    assert plt.get_fignums() == []
