import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiclip.pl._network_layout import _pack, place_labels, spread


@given(st.lists(st.floats(1, 10), min_size=1, max_size=30), st.floats(0.3, 3))
def test_squares_do_not_overlap(sides, aspect):
    sides = np.sort(sides)[::-1]
    corners = _pack(sides, aspect)
    for (i, one), (j, other) in itertools.combinations(enumerate(corners), 2):
        apart = one[0] + sides[i] <= other[0] + 1e-9 or other[0] + sides[j] <= one[0] + 1e-9
        below = one[1] - sides[i] >= other[1] - 1e-9 or other[1] - sides[j] >= one[1] - 1e-9
        assert apart or below
    width = (corners[:, 0] + sides).max()
    assert width <= 1.03 * max(sides[0], np.sqrt((sides**2).sum() * aspect))


def test_components_stay_apart_and_seeds_decide():
    graph = nx.Graph([("A", "B"), ("B", "C"), ("C", "D"), ("D", "E"), ("E", "A"), ("F", "G"), ("H", "I")])
    places = spread(graph, 0, 1.2)
    assert set(places) == set(graph)
    boxes = [np.array([places[node] for node in part]) for part in nx.connected_components(graph)]
    for one, other in itertools.combinations(boxes, 2):
        assert (one.max(axis=0) < other.min(axis=0)).any() or (other.max(axis=0) < one.min(axis=0)).any()
    again, other = spread(graph, 0, 1.2), spread(graph, 1, 1.2)
    assert all((places[node] == again[node]).all() for node in graph)
    assert any((places[node] != other[node]).any() for node in graph)


@pytest.mark.parametrize("n", [5, 80])
def test_labels_keep_clear_of_each_other_of_points_and_of_the_edge(n):
    rng, page = np.random.default_rng(n), (4.0, 3.0)
    points, sizes = rng.uniform(0, 1, (n, 2)) * page, np.full((n, 2), (0.4, 0.12))
    placed = place_labels(points, sizes, range(n), gap=0.03, page=page)
    assert len(placed) >= min(n - 1, 30)
    for (i, one), (j, other) in itertools.combinations(placed.items(), 2):
        assert (abs(one - other) >= (sizes[i] + sizes[j]) / 2).any()
    for i, centre in placed.items():
        assert (centre - sizes[i] / 2 >= 0).all()
        assert (centre + sizes[i] / 2 <= page).all()
        assert (abs(points - centre) >= sizes[i] / 2 - 1e-9).any(axis=1).all()
