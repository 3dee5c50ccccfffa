import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from semiclip import errors, pl


def written(ax):
    return [text.get_text() for text in ax.texts]


def test_bars_counts_and_sums(table, legend):
    ax = pl.gains_losses(table)
    total = table["preserved"] + table["gains"]
    preserved, gains, losses = (
        [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in part] for part in ax.containers
    )
    np.testing.assert_allclose(preserved, [(0, n) for n in table["preserved"]])
    np.testing.assert_allclose(gains, list(zip(table["preserved"], total, strict=True)))
    np.testing.assert_allclose(losses, [(-n, 0) for n in table["losses"]])
    assert [part[0].get_facecolor()[:3] for part in ax.containers] == [
        to_rgb(c) for c in ("0.65", "#009E73", "#D55E00")
    ]
    assert written(ax) == ["52 + 29 = 81", "44 + 33 = 77", "40 + 42 = 82", "9", "17", "21"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Semi-Clipped", "KD", "VICReg"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first stands on top"
    assert legend(ax) == ["preserved", "gains", "losses"]
    assert " ".join(ax.get_xlabel().split()) == "Recalled pairs, compared with X_scvi (61)"
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert not any("-" in tick or "−" in tick for tick in ticks)
    assert all(-21 <= tick <= 82 for tick in ax.get_xticks())
    label = pl.gains_losses(table.assign(losses=[9, 17, 22])).get_xlabel()
    assert label == "Recalled pairs, compared with X_scvi", "bases of different sizes are not named as one"


def test_large_and_averaged_counts(table, assert_legible):
    ax = pl.gains_losses(table.assign(preserved=[5200, 4100, 1.5], gains=0, losses=0))
    assert written(ax)[0] == "5,200 + 0 = 5,200"
    assert written(ax)[2] == "1.5 + 0 = 1.5"
    assert written(pl.gains_losses(table.assign(preserved=0, gains=0, losses=0)))[::3] == ["0 + 0 = 0", "0"]
    parts = table.columns[2:]
    large = table.replace("KD", "a rather long name").assign(**{part: table[part] * 1000 for part in parts})
    assert_legible(pl.gains_losses(large, ax=plt.subplots(figsize=(3.2, 2.6), layout="constrained")[1]))


def test_refuses_several_bases(table, refuses):
    with refuses(errors.TooMany, number=2, limit=1):
        pl.gains_losses(table.assign(base=["X_scvi", "X_image", "X_scvi"]))


def test_large_letters_of_a_style_cut_nothing(table, assert_legible):
    with plt.rc_context({"font.size": 14}):
        assert_legible(pl.gains_losses(table))
