import numpy as np
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl


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
    shares = [text.get_text() for text in ax.texts if "/" in text.get_text()]
    assert shares == [f"{n}/{of}" for n, of in zip(best["n_overlap"], best["n_set"], strict=True)]
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.lines], [-np.log10(0.05), 2])
    assert [text.get_text().strip() for text in ax.texts[:2]] == ["p = 0.05", "0.01"]
    assert ax.get_xlabel() == f"−log₁₀ {'adjusted p' if adjusted else 'p'}\n10 of 12 gene sets"
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the best stands on top"


def test_long_names_are_broken_and_shortened(table):
    names = [label.get_text() for label in pl.enrichment(table).get_yticklabels()]
    assert names[0].split() == ["HALLMARK", "TNFA", "SIGNALING", "VIA", "NFKB"]
    assert names[1] == "Cell Cycle"
    assert names[2].startswith("Respiratory electron")
    assert names[2].endswith("by uncouplers"), "what is cut is the middle"
    assert names[2].count("…") == names[2].count("\n") == 1


def test_ten_names_that_begin_and_end_alike_stay_ten(table):
    names = [f"GOBP_positive_regulation_of_{part}_by_RNA_polymerase_II" for part in "ABCDEFGHIJ"]
    written = [label.get_text() for label in pl.enrichment(table.iloc[:10].assign(gene_set=names)).get_yticklabels()]
    assert len(set(written)) == 10
    few = plt.subplots(figsize=(2.4, 2.4), layout="constrained")[1]
    assert (
        len(
            {
                label.get_text()
                for label in pl.enrichment(table.assign(gene_set=[*names, "a", "b"]), ax=few).get_yticklabels()
            }
        )
        == 10
    )


def test_few_gene_sets_and_the_smallest_and_the_largest_p(table, assert_legible):
    assert pl.enrichment(table.iloc[:3], n_top=5).get_xlabel() == "−log₁₀ adjusted p"
    assert len(pl.enrichment(table, n_top=1).get_yticks()) == 1
    assert_legible(pl.enrichment(table, n_top=2))
    ax = pl.enrichment(table.iloc[:2].assign(p_adjusted=[0, 1]))
    at = dots(ax).get_offsets()[:, 0]
    assert at.tolist() == [pytest.approx(-np.log10(np.finfo(float).tiny)), 0]
    assert not np.signbit(at[1])


def test_refuses(table, refuses):
    with refuses(errors.BadValue, name="n_top", value=0):
        pl.enrichment(table, n_top=0)
    with refuses(errors.Refused, items=["Cell Cycle"]):
        pl.enrichment(table.assign(p_adjusted=table["p_adjusted"].where(table.index != 1, 2)))
