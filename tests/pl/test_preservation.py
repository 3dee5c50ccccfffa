import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer

from semiclip import errors, pl

SEEN, UNSEEN = "seen perturbations", "unseen perturbations"
LUCK = np.array([-0.02, 0, 0.05])


def heights(ax):
    """Heights of the bars by the name in the legend."""
    bars = [part for part in ax.containers if isinstance(part, BarContainer)]
    return {part.get_label(): np.array([bar.get_height() for bar in part]) for part in bars}


def spreads(ax):
    bars = {part.get_label(): part.errorbar for part in ax.containers if isinstance(part, BarContainer)}
    segments = {name: bar.lines[2][0].get_segments() for name, bar in bars.items() if bar is not None}
    return {name: np.array([np.ptp(line[:, 1]) / 2 for line in lines]) for name, lines in segments.items()}


@pytest.fixture
def seeds(make):
    return pd.concat([make("preservation", luck).assign(seed=seed) for seed, luck in enumerate(LUCK)])


def test_parts_and_score_on_one_scale(table, legend, decoders):
    ax = pl.preservation(table)
    assert legend(ax) == ["random", "constant", "PCA", "X_scvi", "X_semiclip"]
    for name, (integrity, spearman) in decoders.items():
        expected = [100 * integrity, 100 * spearman, 50 * (integrity + spearman)]
        np.testing.assert_allclose(heights(ax)[name], expected, atol=1e-12)
        assert heights(ax)[name][2] == pytest.approx(heights(ax)[name][:2].mean())
    assert spreads(ax) == {}
    labels = [" ".join(label.get_text().split()) for label in ax.get_xticklabels()]
    assert labels == ["structural integrity × 100", "Spearman per gene × 100", "score (mean of both)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (UNSEEN, "Preservation (perfect: 100)")
    assert ax.get_ylim()[0] < -10, "a negative correlation is shown"
    assert max(ax.get_yticks()) <= 100
    centres = np.array([bar.get_x() + bar.get_width() / 2 for bar in ax.patches]).reshape(5, 3)
    np.testing.assert_allclose(centres.mean(axis=0), [0, 1, 2], atol=1e-12)
    ax = pl.preservation(table, key=SEEN)
    np.testing.assert_allclose(heights(ax)["X_scvi"], [65, 45, 55])
    assert ax.get_xlabel() == SEEN


def test_baselines_are_grey_and_the_others_coloured(table, shades, legend):
    ax = pl.preservation(table)
    colours = np.array([bar.get_facecolor()[:3] for bar in ax.patches]).reshape(5, 3, 3)
    assert (np.ptp(colours[:3], axis=2) == 0).all()
    np.testing.assert_allclose(colours[3:], [[to_rgb(shade)] * 3 for shade in shades[:2]])
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in ax.patches[:9]}) == 3
    # they come first, and the others in their order
    assert legend(pl.preservation(table.iloc[::-1])) == ["random", "constant", "PCA", "X_semiclip", "X_scvi"]
    baselines = table[table["representation"].isin(["constant", "PCA"])]
    assert legend(pl.preservation(baselines)) == ["constant", "PCA"]


def test_means_and_deviations_over_seeds(seeds, decoders):
    ax = pl.preservation(seeds)
    for name, (integrity, spearman) in decoders.items():
        parts = 100 * np.array([integrity - LUCK, spearman + 3 * LUCK])
        runs = np.vstack([parts, parts.mean(axis=0)])
        np.testing.assert_allclose(heights(ax)[name], runs.mean(axis=1))
        np.testing.assert_allclose(spreads(ax)[name], runs.std(axis=1, ddof=1))
    assert ax.get_xlabel() == f"{UNSEEN}\nmean ± sd over 3 seeds"


def test_a_baseline_of_one_seed_has_no_deviation(seeds, decoders):
    ax = pl.preservation(seeds[(seeds["representation"] != "PCA") | (seeds["seed"] == 1)])
    assert set(spreads(ax)) == set(decoders) - {"PCA"}
    assert ax.get_xlabel() == f"{UNSEEN}\nmean ± sd over seeds"
    assert pl.preservation(seeds[seeds["seed"] == 1]).get_xlabel() == UNSEEN


@pytest.mark.parametrize("dtype", ["category", "string"])
def test_types_of_names(table, dtype):
    typed = table.astype({"metric": dtype, "representation": dtype, "key": dtype, "value": "Float64"})
    np.testing.assert_equal(heights(pl.preservation(typed)), heights(pl.preservation(table)))


def test_refuses(table, seeds, refuses):
    with refuses(errors.MissingEntry, key="unseen", there=[SEEN, UNSEEN], name="key"):
        pl.preservation(table, key="unseen")
    with refuses(errors.Refused, items=["spearman_gene of X_scvi"]):
        pl.preservation(table.drop(index=21))
    with refuses(errors.Repeated):
        pl.preservation(seeds.drop(columns="seed"))
