import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl

RUNGS = ["base", "+ fixed augmentation", "+ TVN at inference", "+ step dropping", "+ control sampling"]


def wide(table):
    return table.pivot(index="rung", columns="seed", values="recall").loc[RUNGS].to_numpy()


def exact_p(gains):
    """Enumerate all signs of the ranks: the two-sided p of the signed-rank test."""
    ranks = np.argsort(np.argsort(abs(gains))) + 1
    low = min(ranks[gains > 0].sum(), ranks[gains < 0].sum())
    sums = [ranks[np.array(signs)].sum() for signs in itertools.product((False, True), repeat=len(gains))]
    return min(1, 2 * np.mean(np.array(sums) <= low))


def assert_gains(texts, values):
    """Compare written gains and their p with the gains of rungs over the seeds."""
    for text, gains in zip(texts, values, strict=True):
        mean, p = text.split("\n")
        assert float(mean.replace("−", "-")) == pytest.approx(gains.mean(), abs=5e-4)
        assert float(p.removeprefix("p = ")) == pytest.approx(exact_p(gains), rel=0.05)


def written(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def labels(ax):
    return [" ".join(label.get_text().split()) for label in ax.get_xticklabels()]


def both_methods(table):
    return pd.concat([table.assign(method="a"), table.assign(method="b")], ignore_index=True)


def test_means_deviations_and_seeds(table, legend, errorbars):
    ax = pl.ablation(table)
    values = wide(table)
    (bar,) = errorbars(ax)
    np.testing.assert_allclose(bar.lines[0].get_ydata(), values.mean(axis=1))
    np.testing.assert_array_equal(bar.lines[0].get_xdata(), range(5))
    ends = np.array([segment[:, 1] for segment in bar.lines[2][0].get_segments()])
    centre, spread = values.mean(axis=1), values.std(axis=1, ddof=1)
    np.testing.assert_allclose(ends, np.stack([centre - spread, centre + spread], axis=1))
    thin = [line for line in ax.lines if line.get_marker() == "."]
    np.testing.assert_array_equal([line.get_ydata() for line in thin], values.T)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("Recall", "15 seeds; p of paired Wilcoxon tests")
    assert (labels(ax), legend(ax)) == (RUNGS, ["mean ± sd"])


def test_gains_over_the_previous_rung_and_of_the_whole_ladder(make):
    table = make("ablation", 8)
    values, ax = wide(table), pl.ablation(table)
    assert_gains(written(ax)[:4], np.diff(values, axis=0))
    # 2 / 2**8, since each seed gains
    assert written(ax)[4:] == [f"{(values[-1] - values[0]).mean():+.3f}, p = 0.0078"]


def test_small_p_a_loss_no_difference_and_ties(table, make):
    falling = make("ablation", n_rungs=2).assign(recall=np.repeat([0.5, 0.4], 15) + np.linspace(0, 0.01, 30))
    assert written(pl.ablation(falling)) == ["−0.095\np < 0.001"]
    assert written(pl.ablation(table.assign(recall=0.5)))[0] == "+0.000\np = 1"
    # differences that rounding errors tell apart are ties
    first = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    gains = 0.1 * np.array([1, 1, 1, 1, 1, -1, -1, -1])  # of one size, so that only their signs count
    table = make("ablation", 8, 2).assign(recall=np.concatenate([first, first + gains]))
    exact = table.assign(recall=np.concatenate([np.zeros(8), gains.round(1)]))
    assert written(pl.ablation(table)) == written(pl.ablation(exact))


@pytest.mark.parametrize(("n_seeds", "note"), [(5, "5 seeds: too few for p < 0.05"), (1, "1 seed: too few")])
def test_fewer_than_six_seeds_get_no_p(n_seeds, note, make):
    ax = pl.ablation(make("ablation", n_seeds))
    assert ax.get_xlabel().startswith(note)
    assert len(written(ax)) == 5
    assert all(abs(float(text.replace("−", "-"))) < 0.2 for text in written(ax))
    assert written(pl.ablation(make("ablation", 6)))[-1].endswith(", p = 0.031")


def test_baseline_and_chance(table, legend):
    ax = pl.ablation(table, baseline="unimodal", chance=0.1)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["unimodal"].get_ydata(), table["unimodal"].mean())
    np.testing.assert_array_equal(lines["chance"].get_ydata(), 0.1)
    assert legend(ax) == ["mean ± sd", "unimodal", "chance"]
    assert len({lines[name].get_linestyle() for name in ("unimodal", "chance")}) == 2


def test_methods_have_their_colours_places_and_gains(table, shades, legend, errorbars):
    other = table.assign(recall=table["recall"] - 0.1 * (table["rung"] != "base"))
    both = pd.concat([table.assign(method="Semi-Clipped"), other.assign(method="KD")])
    ax = pl.ablation(both, method="method")
    assert legend(ax) == ["Semi-Clipped", "KD"]
    lines = [bar.lines[0] for bar in errorbars(ax)]
    assert [line.get_color() for line in lines] == list(shades[:2])
    np.testing.assert_allclose(
        [line.get_ydata() for line in lines], [wide(part).mean(axis=1) for part in (table, other)]
    )
    places = np.array([line.get_xdata() for line in lines])
    np.testing.assert_allclose(places.mean(axis=0), range(5))
    assert (places[0] < places[1]).all()
    colours = [text.get_color() for text in ax.texts if text.get_text()]
    assert colours == [shades[1]] * 5 + [shades[0]] * 5, "the first method stands on top"
    assert written(ax)[5:] == written(pl.ablation(table))
    ax = pl.ablation(both, method="method", palette={"KD": "red", "Semi-Clipped": "blue"})
    assert [bar.lines[0].get_color() for bar in errorbars(ax)] == ["blue", "red"]


def test_alternatives_are_compared_with_a_base(make, legend):
    table = make("ablation", 8)
    both = both_methods(table)
    both.loc[both["method"] == "b", "recall"] += 0.1 * (both["rung"] == RUNGS[0])
    ax = pl.ablation(both, method="method", base=RUNGS[2])
    assert ax.get_xlabel() == f"gains over {RUNGS[2]}\n8 seeds; p of paired Wilcoxon tests"
    texts = [text for text in ax.texts if text.get_text()]
    assert [text.xy[0] for text in texts] == [0, 1, 3, 4] * 2, "above each rung but the base, b below a"
    for part, name in ((written(ax)[:4], "b"), (written(ax)[4:], "a")):
        values = wide(both[both["method"] == name])
        assert_gains(part, np.delete(values - values[2], 2, axis=0))
    bases = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in bases] == pytest.approx([wide(table)[2].mean()] * 2)
    points = [line for line in ax.lines if line.get_marker() in (".", "o")]
    assert {line.get_linestyle() for line in points} == {"None"}, "nothing is joined"
    assert not [text for text in ax.texts if text.arrow_patch is not None], "no brackets"
    assert legend(ax) == ["a", "b"]
    numbers = both.assign(rung=both["rung"].map(RUNGS.index))
    assert written(pl.ablation(numbers, method="method", base=2)) == written(ax)


@pytest.mark.parametrize("dtype", ["category", "string"])
def test_names_of_columns_types_and_order_of_rungs(table, dtype, errorbars):
    renamed = table.astype({"rung": dtype, "seed": "category"})
    renamed = renamed.rename(columns={"recall": "mean_rank", "rung": "step", "seed": "run"})
    ax = pl.ablation(renamed.iloc[::-1], value="mean_rank", rung="step", seed="run")
    assert ax.get_ylabel() == "Mean rank"
    assert labels(ax) == RUNGS[::-1]
    np.testing.assert_allclose(errorbars(ax)[0].lines[0].get_ydata(), wide(table).mean(axis=1)[::-1])


@pytest.mark.parametrize("base", [None, RUNGS[0]])
def test_nothing_of_many_methods_is_cut_or_hidden(table, base, assert_legible):
    methods = pd.concat([table.assign(method=f"method {i}") for i in range(3)])
    ax = plt.subplots(figsize=(3.35, 5), layout="constrained")[1]
    pl.ablation(methods, method="method", base=base, baseline="unimodal", chance=0.1, ax=ax)
    assert_legible(ax)
    above = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert max(box.y1 for box in above) <= ax.get_legend().get_window_extent().y0
    assert min(box.y0 for box in above) >= ax.transData.transform((0, table["recall"].max()))[1]
    top = max(tick for tick in ax.get_yticks())
    assert table["recall"].max() - 0.15 < top < table["recall"].max() + 0.05, "the room above has no scale"


def test_refuses(table, make, refuses):
    with refuses(errors.TooFew, number=1, needed=2):
        pl.ablation(make("ablation", n_rungs=1))
    with refuses(errors.UnknownChoice, name="base", value="wrong", choices=RUNGS):
        pl.ablation(table, base="wrong")
    for name in ("rung", "method", "baseline"):
        with refuses(errors.MissingColumn, key="wrong", name=name):
            pl.ablation(table, **{name: "wrong"})
    with refuses(errors.MissingValues):
        pl.ablation(both_methods(table).drop(index=75 + 1), method="method")
