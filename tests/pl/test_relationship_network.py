import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.colors import same_color

from semiclip import pl, tl
from semiclip.pl._style import OKABE_ITO

PAIRS = [
    ("A", "B", "CORUM", True, False),
    ("B", "C", "CORUM;SIGNOR", True, False),
    ("C", "D", "SIGNOR", True, True),
    ("E", "F", "SIGNOR", True, False),
    ("G", "H", "StringDB", False, True),
]


@pytest.fixture
def sets():
    return pd.DataFrame(PAIRS, columns=["gene_a", "gene_b", "databases", "X_semiclip", "X_scvi"])


def random_sets(n_genes, n_pairs):
    rng = np.random.default_rng(0)
    a, b = np.triu_indices(n_genes, 1)
    chosen = np.sort(rng.permutation(len(a))[:n_pairs])
    names = np.array([f"GENE{i}" for i in range(n_genes)])
    databases = rng.choice(["CORUM", "SIGNOR", "StringDB", "CORUM;StringDB", "HuMAP;Reactome;SIGNOR"], n_pairs)
    return pd.DataFrame({"gene_a": names[a[chosen]], "gene_b": names[b[chosen]], "databases": databases, "X": True})


def named(ax):
    return [text.get_text() for text in ax.texts if " " not in text.get_text()]


def n_lines(ax):
    """Count the lines by the name of their database."""
    return {part.get_label(): len(part.get_segments()) for part in ax.collections if isinstance(part, LineCollection)}


def n_dots(ax):
    (dots,) = [part for part in ax.collections if not isinstance(part, LineCollection)]
    return len(dots.get_offsets())


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_pairs_genes_colours_and_counts(sets):
    ax = pl.relationship_network(sets, inside="X_semiclip", outside=["X_scvi"])
    assert n_lines(ax) == {"CORUM": 1, "SIGNOR": 1, "several": 1}
    assert sorted(named(ax)) == list("ABCEF")
    assert n_dots(ax) == 5
    assert ax.get_title() == "3 pairs (5 genes) in X_semiclip, not in X_scvi"
    assert legend(ax) == ["CORUM", "SIGNOR", "several"]
    colours = {part.get_label(): part.get_color()[0] for part in ax.collections if isinstance(part, LineCollection)}
    assert same_color(colours["CORUM"], OKABE_ITO[0])
    assert same_color(colours["SIGNOR"], OKABE_ITO[1])
    assert same_color(colours["several"], "0.45")


def test_lines_end_at_their_genes(sets):
    ax = pl.relationship_network(sets, inside="X_semiclip", outside="X_scvi", database="CORUM")
    graph = nx.Graph()
    for part in ax.collections[:-1]:
        for segment in part.get_segments():
            graph.add_edge(*(tuple(end.round(9)) for end in segment))
    assert sorted(dict(graph.degree).values()) == [1, 1, 2], "A–B–C"
    assert ax.get_title() == "2 pairs (3 genes) in X_semiclip, not in X_scvi, of CORUM"


def test_the_region_is_that_of_the_tools(sets):
    ax = pl.relationship_network(sets, inside=["X_semiclip", "X_scvi"])
    assert sum(n_lines(ax).values()) == len(tl.region(sets, inside=["X_semiclip", "X_scvi"])) == 1
    assert ax.get_title() == "1 pair (2 genes) in X_semiclip and X_scvi"
    assert pl.relationship_network(sets).get_title() == "5 pairs (8 genes)"


def test_a_database_keeps_its_colour_whatever_the_region(sets):
    ax = pl.relationship_network(sets, inside="X_scvi", outside="X_semiclip")
    assert legend(ax) == ["StringDB"]
    assert same_color(ax.collections[0].get_color()[0], OKABE_ITO[2])


def test_the_largest_components_that_fit(sets):
    for most, genes, rest in ((4, 6, "CD"), (3, 4, "")):
        ax = pl.relationship_network(sets, max_pairs=most)
        first, second = ax.get_title().split("\n")
        assert first == f"{most} of 5 pairs ({genes} genes)", rest
        assert second == "shown: the largest components that fit"
        assert sum(n_lines(ax).values()) == most
        assert set("ABCD") <= set(named(ax))


def test_of_too_large_a_component_the_pairs_in_most_databases(sets):
    ax = pl.relationship_network(sets, max_pairs=1)
    assert sorted(named(ax)) == ["B", "C"]
    assert " ".join(ax.get_title().split()) == (
        "1 of 5 pairs (2 genes) shown: of the largest component the pairs in most databases"
    )
    many = random_sets(40, 200)
    ax = pl.relationship_network(many, max_pairs=30)
    assert n_lines(ax) == {"several": 30}


def test_genes_without_room_are_counted():
    sets = random_sets(90, 140)
    ax = pl.relationship_network(sets, ax=plt.subplots(figsize=(3.2, 2.6), layout="constrained")[1])
    n_genes = n_dots(ax)
    (note,) = [text.get_text() for text in ax.texts if "room" in text.get_text()]
    assert note == f"{n_genes - len(named(ax))} of {n_genes} genes have no room for their name"
    assert 10 < len(named(ax)) < n_genes


@pytest.mark.parametrize("size", [None, (3.2, 2.6)])
@pytest.mark.parametrize("n_pairs", [20, 120])
def test_nothing_is_cut_or_hidden(size, n_pairs, assert_legible):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = pl.relationship_network(random_sets(80, n_pairs), ax=ax, inside="X")
    assert_legible(ax)
    legend = ax.get_legend().get_window_extent()
    assert not any(text.get_window_extent().overlaps(legend) for text in ax.texts if " " not in text.get_text())


def test_seeds_decide(sets):
    def places(rng):
        return pl.relationship_network(sets, rng=rng).collections[-1].get_offsets()

    np.testing.assert_array_equal(places(0), places(0))
    np.testing.assert_array_equal(places(np.random.default_rng(0)), places(0))
    assert (places(1) != places(0)).any()


def test_draws_on_given_axes_in_given_colours_and_changes_nothing(sets):
    before = sets.copy()
    figure, ax = plt.subplots()
    palette = {"SIGNOR": "red", "CORUM": "blue", "StringDB": "lime"}
    assert pl.relationship_network(sets, ax=ax, palette=palette) is ax
    for part in ax.collections[:3]:
        assert same_color(part.get_color()[0], palette[part.get_label()])
    assert plt.get_fignums() == [figure.number]
    pd.testing.assert_frame_equal(sets, before)


def test_refuses(sets):
    with pytest.raises(TypeError, match="table is a dict, not a DataFrame; draw what scl.tl.relationship_sets returns"):
        pl.relationship_network({})
    with pytest.raises(KeyError, match="no column databases; draw what scl.tl.relationship_sets returns"):
        pl.relationship_network(sets.drop(columns="databases"))
    with pytest.raises(ValueError, match="the table has no rows"):
        pl.relationship_network(sets.iloc[:0])
    with pytest.raises(ValueError, match=r"column 'databases' has no value in 1 row\(s\): 1; drop them first"):
        pl.relationship_network(sets.assign(databases=sets["databases"].where(sets.index != 1)))
    with pytest.raises(KeyError, match="database='HuMAP' is not in sets, which has CORUM, SIGNOR, StringDB"):
        pl.relationship_network(sets, database="HuMAP")
    with pytest.raises(KeyError, match="X_kd"):
        pl.relationship_network(sets, inside="X_kd")
    with pytest.raises(ValueError, match="inside names no representation"):
        pl.relationship_network(sets, outside="X_scvi")
    with pytest.raises(
        ValueError, match="no annotated pair in X_scvi, not in X_semiclip, of CORUM, so there is nothing"
    ):
        pl.relationship_network(sets, inside="X_scvi", outside="X_semiclip", database="CORUM")
    with pytest.raises(ValueError, match="repeats pairs"):
        pl.relationship_network(pd.concat([sets, sets.iloc[:1]]))
    with pytest.raises(ValueError, match="max_pairs=0: draw at least one pair"):
        pl.relationship_network(sets, max_pairs=0)
    with pytest.raises(ValueError, match="3 names .* 1 colours"):
        pl.relationship_network(sets, palette=["red"])
    assert plt.get_fignums() == []
