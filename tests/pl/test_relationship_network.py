import itertools
import os
import subprocess
import sys

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection
from matplotlib.colors import same_color

from semiclip import errors, pl, tl


def random_sets(n_genes, n_pairs):
    rng = np.random.default_rng(0)
    a, b = np.triu_indices(n_genes, 1)
    chosen = np.sort(rng.permutation(len(a))[:n_pairs])
    names = np.array([f"GENE{i}" for i in range(n_genes)])
    databases = rng.choice(["CORUM", "SIGNOR", "StringDB", "CORUM;StringDB", "HuMAP;Reactome;SIGNOR"], n_pairs)
    return pd.DataFrame({"gene_a": names[a[chosen]], "gene_b": names[b[chosen]], "databases": databases, "X": True})


def n_lines(ax):
    return {name: len(part.get_segments()) for name, part in lines(ax).items()}


def named(ax):
    return [text.get_text() for text in texts(ax)]


def texts(ax):
    """Return the names of genes, which have no spaces."""
    return [text for text in ax.texts if " " not in text.get_text()]


def lines(ax):
    """Return the lines by the name of their database."""
    return {part.get_label(): part for part in ax.collections if isinstance(part, LineCollection)}


def dots(ax):
    return np.asarray(ax.collections[-1].get_offsets())


def drawn_graph(ax):
    """Return the graph of the lines, whose nodes are places."""
    graph = nx.Graph()
    for part in lines(ax).values():
        graph.add_edges_from(tuple(map(tuple, segment.round(9))) for segment in part.get_segments())
    return graph


def test_pairs_genes_colours_and_counts(table, legend, shades):
    ax = pl.relationship_network(table, inside="X_semiclip", outside=["X_scvi"])
    assert n_lines(ax) == {"CORUM": 1, "SIGNOR": 1, "several": 1}
    assert sorted(named(ax)) == list("ABCEF")
    assert len(dots(ax)) == 5
    assert ax.get_title() == "3 pairs (5 genes) in X_semiclip, not in X_scvi"
    assert legend(ax) == ["CORUM", "SIGNOR", "several"]
    for part, colour in zip(lines(ax).values(), [*shades[:2], "0.45"], strict=True):
        assert same_color(part.get_color()[0], colour)


def test_lines_end_at_their_genes(table):
    ax = pl.relationship_network(table, inside="X_semiclip", outside="X_scvi", database="CORUM")
    graph = drawn_graph(ax)
    assert sorted(dict(graph.degree).values()) == [1, 1, 2], "A–B–C"
    assert set(graph) == set(map(tuple, dots(ax).round(9)))
    assert ax.get_title() == "2 pairs (3 genes) in X_semiclip, not in X_scvi, of CORUM"


def test_the_region_is_that_of_the_tools(table, legend, shades):
    ax = pl.relationship_network(table, inside=["X_semiclip", "X_scvi"])
    assert sum(n_lines(ax).values()) == len(tl.region(table, inside=["X_semiclip", "X_scvi"])) == 1
    assert ax.get_title() == "1 pair (2 genes) in X_semiclip and X_scvi"
    assert pl.relationship_network(table).get_title() == "5 pairs (8 genes)"
    ax = pl.relationship_network(table, inside="X_scvi", outside="X_semiclip")
    assert legend(ax) == ["StringDB"]
    assert same_color(ax.collections[0].get_color()[0], shades[2]), "its colour whatever the region"


def test_the_largest_components_that_fit_or_the_pairs_of_one_in_most_databases(table):
    for most, n_genes in ((4, 6), (3, 4)):
        ax = pl.relationship_network(table, max_pairs=most)
        first, rule = ax.get_title().split("\n")
        assert first == f"{most} of 5 pairs ({n_genes} genes)"
        assert rule == "shown: the largest components that fit"
        assert sum(n_lines(ax).values()) == most
        assert set("ABCD") <= set(named(ax))
    ax = pl.relationship_network(table, max_pairs=1)
    assert sorted(named(ax)) == ["B", "C"]
    rule = "shown: of the largest component the pairs in most databases"
    assert " ".join(ax.get_title().split()) == f"1 of 5 pairs (2 genes) {rule}"
    assert n_lines(pl.relationship_network(random_sets(40, 200), max_pairs=30)) == {"several": 30}


def test_components_stay_apart():
    ax = pl.relationship_network(random_sets(80, 40), rng=0)
    boxes = [np.array(list(part)) for part in nx.connected_components(drawn_graph(ax))]
    assert len(boxes) > 5
    for one, other in itertools.combinations(boxes, 2):
        assert (one.max(axis=0) < other.min(axis=0)).any() or (other.max(axis=0) < one.min(axis=0)).any()


def test_names_keep_clear_of_each_other_of_dots_and_of_the_edge():
    ax = pl.relationship_network(
        random_sets(90, 140), rng=0, ax=plt.subplots(figsize=(3.2, 2.6), layout="constrained")[1]
    )
    ax.figure.canvas.draw()
    (note,) = [text.get_text() for text in ax.texts if "room" in text.get_text()]
    n_genes, n_named = len(dots(ax)), len(named(ax))
    assert note == f"{n_genes - n_named} of {n_genes} genes have no room for their name"
    assert 50 < n_named < n_genes
    boxes, page = [text.get_window_extent() for text in texts(ax)], ax.get_window_extent().padded(0.5)
    assert all(page.count_contains(box.corners()) == 4 for box in boxes)
    assert not any(one.padded(-0.5).overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.padded(-0.5).count_contains(ax.transData.transform(dots(ax))) for box in boxes)


def test_seeds_decide_in_every_process(table):
    places = [dots(pl.relationship_network(table, rng=rng)) for rng in (0, 0, np.random.default_rng(0), 1)]
    np.testing.assert_array_equal(places[1:3], [places[0]] * 2)
    assert (places[3] != places[0]).any()
    code = (
        "import pandas as pd; from semiclip import pl;"
        "pairs = pd.DataFrame({'gene_a': list('ABCDEF'), 'gene_b': list('BCDEAG'), 'databases': 'CORUM', 'X': True});"
        "print(pl.relationship_network(pairs, rng=0).collections[-1].get_offsets().data.tolist())"
    )
    one, other = (
        subprocess.check_output([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert one == other


def test_refuses(table, refuses):
    with refuses(errors.MissingValues, where="column 'databases'", rows=[1]):
        pl.relationship_network(table.assign(databases=table["databases"].where(table.index != 1)))
    with refuses(errors.MissingEntry, key="HuMAP", there=["CORUM", "SIGNOR", "StringDB"], name="database"):
        pl.relationship_network(table, database="HuMAP")
    with refuses(errors.Empty):
        pl.relationship_network(table, inside="X_scvi", outside="X_semiclip", database="CORUM")
    with refuses(errors.BadValue, name="max_pairs", value=0):
        pl.relationship_network(table, max_pairs=0)
    with refuses(errors.MissingEntry, key=["X_kd"]):
        pl.relationship_network(table, inside="X_kd")
    with pytest.raises(ValueError):
        pl.relationship_network(table, outside="X_scvi")
    with refuses(errors.Repeated):
        pl.relationship_network(pd.concat([table, table.iloc[:1]]))
