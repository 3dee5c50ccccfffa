import itertools

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.container import ErrorbarContainer

from semiclip import pl
from semiclip.pl._style import OKABE_ITO

RUNGS = ["base", "+ fixed augmentation", "+ TVN at inference", "+ step dropping", "+ control sampling"]
RISE = np.array([0.50, 0.52, 0.58, 0.57, 0.62])


def ladder(n_seeds=15, rungs=RUNGS):
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.03, n_seeds)
    runs = [luck + RISE[i] + rng.normal(0, 0.01, n_seeds) for i in range(len(rungs))]
    index = pd.MultiIndex.from_product([rungs, range(n_seeds)], names=["rung", "seed"])
    columns = {"recall": np.concatenate(runs), "unimodal": np.tile(0.35 + luck, len(rungs))}
    return pd.DataFrame(columns, index=index).reset_index()


@pytest.fixture
def table():
    return ladder()


def wide(table):
    return table.pivot(index="rung", columns="seed", values="recall").loc[RUNGS].to_numpy()


def exact_p(gains):
    """Enumerate all signs of the ranks: the two-sided p of the signed-rank test."""
    ranks = np.argsort(np.argsort(abs(gains))) + 1
    low = min(ranks[gains > 0].sum(), ranks[gains < 0].sum())
    sums = [sum(rank for rank, kept in zip(ranks, signs, strict=True) if kept) for signs in _signs(len(gains))]
    return min(1, 2 * np.mean(np.array(sums) <= low))


def _signs(n):
    return itertools.product((False, True), repeat=n)


def written(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bars(ax):
    return [container for container in ax.containers if isinstance(container, ErrorbarContainer)]


def test_means_deviations_and_seeds(table):
    ax = pl.ablation(table)
    values = wide(table)
    (bar,) = bars(ax)
    np.testing.assert_allclose(bar.lines[0].get_ydata(), values.mean(axis=1))
    np.testing.assert_array_equal(bar.lines[0].get_xdata(), range(5))
    ends = np.array([segment[:, 1] for segment in bar.lines[2][0].get_segments()])
    centre, spread = values.mean(axis=1), values.std(axis=1, ddof=1)
    np.testing.assert_allclose(ends, np.stack([centre - spread, centre + spread], axis=1))
    thin = [line for line in ax.lines if line.get_marker() == "."]
    np.testing.assert_array_equal([line.get_ydata() for line in thin], values.T)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("Recall", "15 seeds; p of paired Wilcoxon tests")
    assert [" ".join(label.get_text().split()) for label in ax.get_xticklabels()] == RUNGS
    assert legend(ax) == ["mean ± sd"]


def test_gains_over_the_previous_rung_and_of_the_whole_ladder():
    table = ladder(8)
    values, ax = wide(table), pl.ablation(table)
    for text, gains in zip(written(ax)[:4], np.diff(values, axis=0), strict=True):
        mean, p = text.split("\n")
        assert float(mean.replace("−", "-")) == pytest.approx(gains.mean(), abs=5e-4)
        assert float(p.removeprefix("p = ")) == pytest.approx(exact_p(gains), rel=0.05)
    assert written(ax)[4] == f"{(values[-1] - values[0]).mean():+.3f}, p = 0.0078"  # 2 / 2**8: each seed gains
    assert len(written(ax)) == 5


def test_small_p_and_a_loss():
    table = ladder(15, RUNGS[:2]).assign(recall=np.repeat([0.5, 0.4], 15) + np.linspace(0, 0.01, 30))
    assert written(pl.ablation(table)) == ["−0.095\np < 0.001"]


def test_no_difference_at_all(table):
    assert written(pl.ablation(table.assign(recall=0.5)))[0] == "+0.000\np = 1"


def test_rounding_errors_are_ties():
    first = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    gains = 0.1 * np.array([1, 1, 1, 1, 1, -1, -1, -1])  # of one size, so that only their signs count
    table = ladder(8, RUNGS[:2]).assign(recall=np.concatenate([first, first + gains]))
    exact = table.assign(recall=np.concatenate([np.zeros(8), gains.round(1)]))
    assert written(pl.ablation(table)) == written(pl.ablation(exact))


@pytest.mark.parametrize(("n_seeds", "said"), [(5, "5 seeds: too few for p < 0.05"), (1, "1 seed: too few")])
def test_too_few_seeds_get_no_p(n_seeds, said):
    ax = pl.ablation(ladder(n_seeds))
    assert ax.get_xlabel().startswith(said)
    assert len(written(ax)) == 5
    assert all(abs(float(text.replace("−", "-"))) < 0.2 for text in written(ax))


def test_six_seeds_are_enough():
    ax = pl.ablation(ladder(6))
    assert written(ax)[-1].endswith(", p = 0.031")


def test_baseline_and_chance(table):
    ax = pl.ablation(table, baseline="unimodal", chance=0.1)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["unimodal"].get_ydata(), table["unimodal"].mean())
    np.testing.assert_array_equal(lines["chance"].get_ydata(), 0.1)
    assert legend(ax) == ["mean ± sd", "unimodal", "chance"]
    assert len({lines[name].get_linestyle() for name in ("unimodal", "chance")}) == 2


def test_methods_have_their_colours_places_and_gains(table):
    other = table.assign(recall=table["recall"] - 0.1 * (table["rung"] != "base"))
    both = pd.concat([table.assign(method="Semi-Clipped"), other.assign(method="KD")])
    ax = pl.ablation(both, method="method")
    assert legend(ax) == ["Semi-Clipped", "KD"]
    for bar, name, colour, data in zip(bars(ax), ("Semi-Clipped", "KD"), OKABE_ITO, (table, other), strict=False):
        assert (bar.get_label(), bar.lines[0].get_color()) == (name, colour)
        np.testing.assert_allclose(bar.lines[0].get_ydata(), wide(data).mean(axis=1))
    places = np.array([bar.lines[0].get_xdata() for bar in bars(ax)])
    np.testing.assert_allclose(places.mean(axis=0), range(5))
    assert (places[0] < places[1]).all()
    colours = [text.get_color() for text in ax.texts if text.get_text()]
    assert colours == [OKABE_ITO[1]] * 5 + [OKABE_ITO[0]] * 5, "the first method stands on top"
    assert written(ax)[5:] == written(pl.ablation(table))

    ax = pl.ablation(both, method="method", palette={"KD": "red", "Semi-Clipped": "blue"})
    assert [bar.lines[0].get_color() for bar in bars(ax)] == ["blue", "red"]


def test_alternatives_are_compared_with_a_base():
    both = _twice(ladder(8)).reset_index(drop=True)
    both.loc[both["method"] == "b", "recall"] += 0.1 * (both["rung"] == RUNGS[0])
    ax = pl.ablation(both, method="method", base=RUNGS[2])
    assert ax.get_xlabel() == f"gains over {RUNGS[2]}\n8 seeds; p of paired Wilcoxon tests"
    texts = [text for text in ax.texts if text.get_text()]
    assert [text.xy[0] for text in texts] == [0, 1, 3, 4] * 2, "above each rung but the base, b below a"
    for part, name in ((texts[:4], "b"), (texts[4:], "a")):
        values = wide(both[both["method"] == name])
        for text, gains in zip(part, np.delete(values - values[2], 2, axis=0), strict=True):
            mean, p = text.get_text().split("\n")
            assert float(mean.replace("−", "-")) == pytest.approx(gains.mean(), abs=5e-4)
            assert float(p.removeprefix("p = ")) == pytest.approx(exact_p(gains), rel=0.05)
    bases = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in bases] == pytest.approx([wide(ladder(8))[2].mean()] * 2)
    points = [line for line in ax.lines if line.get_marker() in (".", "o")]
    assert {line.get_linestyle() for line in points} == {"None"}, "nothing is joined"
    assert not [text for text in ax.texts if text.arrow_patch is not None], "no brackets"
    assert legend(ax) == ["a", "b"]
    numbers = both.assign(rung=both["rung"].map(RUNGS.index))
    assert written(pl.ablation(numbers, method="method", base=2)) == written(ax)


def test_names_of_columns_and_order_of_rungs(table):
    renamed = table.rename(columns={"recall": "mean_rank", "rung": "step", "seed": "run"})
    ax = pl.ablation(renamed.iloc[::-1], value="mean_rank", rung="step", seed="run")
    assert ax.get_ylabel() == "Mean rank"
    assert [" ".join(label.get_text().split()) for label in ax.get_xticklabels()] == RUNGS[::-1]
    np.testing.assert_allclose(bars(ax)[0].lines[0].get_ydata(), wide(table).mean(axis=1)[::-1])


@pytest.mark.parametrize("dtype", ["category", "string"])
def test_types_of_names(table, dtype):
    ax = pl.ablation(table.astype({"rung": dtype, "seed": "category"}))
    np.testing.assert_allclose(bars(ax)[0].lines[0].get_ydata(), wide(table).mean(axis=1))


@pytest.mark.parametrize("size", [None, (3.35, 3), (9, 5)])
@pytest.mark.parametrize("n_methods", [1, 3])
@pytest.mark.parametrize("base", [None, RUNGS[0]])
def test_nothing_is_cut_or_hidden(table, size, n_methods, base):
    size = size if size is None else (size[0], size[1] + n_methods - 1)
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    methods = pd.concat([table.assign(method=f"method {i}") for i in range(n_methods)])
    ax = pl.ablation(methods, method="method", base=base, baseline="unimodal", chance=0.1, ax=ax)
    figure = ax.figure
    figure.canvas.draw()
    above = [text.get_window_extent() for text in ax.texts if text.get_text()]
    legend = ax.get_legend().get_window_extent()
    for box in [*above, legend, *(label.get_window_extent() for label in [*ax.get_xticklabels(), ax.xaxis.label])]:
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    assert max(box.y1 for box in above) <= legend.y0
    highest = ax.transData.transform((0, table["recall"].max()))[1]
    assert min(box.y0 for box in above) >= highest
    assert not any(one.overlaps(other) for one, other in itertools.combinations(above, 2))
    labels = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_rotation() == 0]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(labels, 2))
    top = max(tick for tick in ax.get_yticks())
    assert table["recall"].max() - 0.15 < top < table["recall"].max() + 0.05, "the room above has no scale"


def test_draws_on_given_axes_and_changes_nothing(table):
    before = table.copy()
    figure, ax = plt.subplots()
    assert pl.ablation(table, ax=ax, palette=["red"]) is ax
    assert plt.get_fignums() == [figure.number]
    assert matplotlib.colors.same_color(bars(ax)[0].lines[0].get_color(), "red")
    pd.testing.assert_frame_equal(table, before)


def test_refuses(table):
    with pytest.raises(TypeError, match="table is a dict, not a DataFrame; pass one with a row per run"):
        pl.ablation({})
    with pytest.raises(KeyError, match="value='wrong' is not a column of the table, which has rung, seed, recall, uni"):
        pl.ablation(table, value="wrong")
    with pytest.raises(KeyError, match="value='recall' is not a column of the table, which has none"):
        pl.ablation(pd.DataFrame())
    for parameter in ("rung", "seed", "method", "baseline"):
        with pytest.raises(KeyError, match=f"{parameter}='wrong' is not a column"):
            pl.ablation(table, **{parameter: "wrong"})
    with pytest.raises(ValueError, match="the table has no rows, so there is nothing to draw"):
        pl.ablation(table.iloc[:0])
    with pytest.raises(TypeError, match="column 'recall' holds object values, not numbers"):
        pl.ablation(table.astype({"recall": object}))
    with pytest.raises(ValueError, match="column 'rung' names a single rung, base; a ladder has two or more"):
        pl.ablation(ladder(rungs=RUNGS[:1]))
    with pytest.raises(ValueError, match=r"base='wrong' is not a rung; column 'rung' names base, \+ fixed augm"):
        pl.ablation(table, base="wrong")
    with pytest.raises(ValueError, match="2 names .* 1 colours"):
        pl.ablation(_twice(table), method="method", palette=["red"])
    with pytest.raises(KeyError, match="palette has no colour for b"):
        pl.ablation(_twice(table), method="method", palette={"a": "red"})
    assert plt.get_fignums() == []


def _twice(table):
    return pd.concat([table.assign(method="a"), table.assign(method="b")])


@pytest.mark.parametrize(
    ("column", "gap"), [("recall", np.nan), ("recall", np.inf), ("unimodal", np.nan), ("rung", None)]
)
def test_refuses_gaps(table, column, gap):
    table.loc[[3, 7], column] = gap
    with pytest.raises(ValueError, match=rf"column '{column}' has no value in 2 row\(s\): 3, 7; fill them, or drop"):
        pl.ablation(table, baseline="unimodal")


def test_refuses_seeds_that_do_not_pair(table):
    with pytest.raises(
        ValueError, match=r"paired by seed, but there is none for rung=base seed=2; add it, or drop its"
    ):
        pl.ablation(table.drop(index=2))
    other = table["seed"] + 100 * (table["rung"] != "base")
    with pytest.raises(ValueError, match=r"none for rung=base seed=100, .*, … \(75 in all\)"):
        pl.ablation(table.assign(seed=other))
    with pytest.raises(ValueError, match=r"none for method=b rung=base seed=1;"):
        pl.ablation(_twice(table).reset_index(drop=True).drop(index=75 + 1), method="method")
    with pytest.raises(ValueError, match="several values for rung=base seed=0, rung=base seed=1; average them first"):
        pl.ablation(pd.concat([table, table.iloc[:2]]))
