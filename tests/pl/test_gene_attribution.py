import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from semiclip import errors
from semiclip.pl import gene_attribution
from semiclip.pl._genes import SMALLEST


def name_long(n):
    """Names of sixty letters, some of several words, that begin alike and end alike."""
    words = [
        "HALLMARK_OXIDATIVE_PHOSPHORYLATION_COMPLEX_ASSEMBLY_UNIT_{:03}",
        "ribosomal protein of the large subunit, isoform number {:03} x",
        "{:03} is a number at the beginning of a name that is rather long",
    ]
    return [words[i % 3].format(i)[:60] for i in range(n)]


def make_table(names):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=len(names)) * rng.choice([-1, 1, 1], len(names))
    return pd.DataFrame(
        {"gene": names, "attribution": values, "direction": rng.choice(["up", "down", "mixed"], len(names))}
    )


def written(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_bars_are_the_largest_of_either_sign_in_the_colour_of_their_direction(table):
    ax = gene_attribution(table, n_top=4)
    top = table.loc[table["attribution"].abs().sort_values(ascending=False).index[:4]]
    assert written(ax) == list(top["gene"])
    (bars,) = ax.containers
    np.testing.assert_allclose([bar.get_width() for bar in bars], top["attribution"])
    np.testing.assert_allclose([bar.get_y() + bar.get_height() / 2 for bar in bars], range(4))
    colours = {"up": "#d55e00", "down": "#0072b2"}
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [colours[name] for name in top["direction"]]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_xlabel() == "attribution\n4 of 12 genes"
    assert gene_attribution(table).get_xlabel() == "attribution"
    low, high = ax.get_xlim()
    assert low <= min(0, top["attribution"].min())
    assert high >= max(0, top["attribution"].max())


def test_the_legend_names_the_directions_that_are_drawn(table, legend):
    assert legend(gene_attribution(table)) == ["expression up", "down"]
    assert legend(gene_attribution(table[table["direction"] == "down"])) == ["expression down"]
    assert legend(gene_attribution(table.replace({"direction": {"up": "mixed"}}))) == ["expression down", "mixed"]


@pytest.mark.parametrize("size", [None, (3.2, 2.6), (9, 5)])
@pytest.mark.parametrize("n", [1, 9, 30])
@pytest.mark.parametrize("long", [False, True])
def test_one_to_thirty_names_are_legible(n, long, size, assert_legible):
    names = name_long(n) if long else [f"GENE{i}" for i in range(n)]
    given_ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = gene_attribution(make_table(names), n_top=30, ax=given_ax)
    assert_legible(ax)
    texts = written(ax)
    assert len({*texts}) == len(texts)
    assert size == (3.2, 2.6) or len(texts) == n
    assert all(label.get_fontsize() >= SMALLEST for label in ax.get_yticklabels())
    box = ax.get_legend().get_window_extent()
    assert box.x1 <= ax.figure.bbox.width + 0.5
    assert box.y1 <= ax.figure.bbox.height + 0.5
    assert ax.get_window_extent().width > 0.25 * ax.figure.bbox.width


def test_zeros_and_one_sign_are_drawn(assert_legible):
    for values in ([0.0, 0.0], [-1.0, -2.0], [1e-9, 3e-9]):
        table = pd.DataFrame({"gene": ["A", "B"], "attribution": values, "direction": ["none", "up"]})
        ax = gene_attribution(table)
        assert_legible(ax)
        assert ax.get_xlim()[0] < ax.get_xlim()[1]


def test_refuses_directions_and_numbers_that_mean_nothing(table, refuses):
    with refuses(errors.UnknownChoice, name="direction", value="sideways"):
        gene_attribution(table.replace({"direction": {"up": "sideways"}}))
    with refuses(errors.BadValue, name="n_top", value=0):
        gene_attribution(table, n_top=0)
    with refuses(errors.Repeated, items=[table["gene"][0]]):
        gene_attribution(pd.concat([table, table.iloc[:1]], ignore_index=True))


def test_heading_and_legend_say_what_the_table_knows(table, legend):
    assert gene_attribution(table).get_title() == ""
    table.attrs = {"perturbations": ["TTI1"], "use_rep": "X_semiclip", "reference": "controls"}
    ax = gene_attribution(table)
    assert ax.get_title() == "TTI1, X_semiclip"
    assert legend(ax) == ["expression up", "down"]
    table.attrs = {"perturbations": ["TTI1", "MTOR"], "use_rep": "X_semiclip", "reference": "all rows"}
    ax = gene_attribution(table)
    assert ax.get_title() == "TTI1 and MTOR, X_semiclip"
    assert legend(ax) == ["above average", "below"]
    down = table[table["direction"] == "down"]
    assert legend(gene_attribution(down)) == ["below average"]


def test_a_title_does_not_cover_the_legend(table):
    figure, ax = plt.subplots(figsize=(5, 4))
    gene_attribution(table, ax=ax).set_title("TTI1 and MTOR")
    figure.draw_without_rendering()
    box = ax.get_legend().get_window_extent()
    assert not box.overlaps(ax.title.get_window_extent())
    assert not any(box.overlaps(bar.get_window_extent()) for bar in ax.patches)
