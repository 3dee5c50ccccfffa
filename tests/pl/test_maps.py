"""Points of several representations, and cosines of perturbations."""

import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist

from semiclip import errors, pl


@pytest.fixture
def adata():
    """Twelve perturbations in four groups, one row each."""
    rng = np.random.default_rng(0)
    names = [f"g{i:02}" for i in range(12)]
    group = np.arange(12) % 4
    obs = pd.DataFrame({"gene": names, "group": pd.Categorical(group.astype(str)), "n": np.arange(12.0)}, index=names)
    x = np.eye(6)[group] + 0.1 * rng.normal(size=(12, 6))
    return anndata.AnnData(
        rng.random((12, 2)), obs, pd.DataFrame(index=["TP53", "MYC"]), obsm={"X_a": x, "X_b": x[::-1].copy()}
    )


def offsets(ax):
    return np.concatenate([points.get_offsets() for points in ax.collections])


# ---- embedding


def test_points_are_the_first_components_in_the_colours_of_the_legend(adata, shades):
    axes = pl.embedding(adata, use_rep=["X_a", "X_b"], color="group", layout="pca")
    for ax, key in zip(axes, ["X_a", "X_b"], strict=True):
        assert ax.get_title() == key
        centred = adata.obsm[key] - adata.obsm[key].mean(axis=0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        at, expected = np.abs(offsets(ax)), np.abs((u * s)[:, :2])
        np.testing.assert_allclose(np.sort(at, axis=0), np.sort(expected, axis=0), atol=1e-9)
        (points,) = (points for points in ax.collections if len(points.get_offsets()))
        ax.figure.canvas.draw()
        drawn = [to_hex(colour).upper() for colour in points.get_facecolors()]
        by_place = {tuple(row.round(6)): colour for row, colour in zip(np.abs(offsets(ax)), drawn, strict=True)}
        codes = adata.obs["group"].cat.codes
        assert [by_place[tuple(row)] for row in expected.round(6)] == [shades[code] for code in codes]
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list("0123")
    assert legend.get_title().get_text() == "group"


def test_colours_that_scanpy_keeps_are_kept(adata):
    adata.uns["group_colors"] = ["#111111", "#222222", "#333333", "#444444"]
    one = adata[adata.obs["group"] != "1"]
    ax = pl.embedding(one, use_rep="X_a", color="group", layout=None)
    shown = [to_hex(handle.get_color()) for handle in ax.figure.legends[0].legend_handles]
    assert shown == ["#111111", "#333333", "#444444"]
    ax = pl.embedding(one, use_rep="X_a", color="group", layout=None, palette=["red", "green", "blue"])
    assert [handle.get_color() for handle in ax.figure.legends[0].legend_handles] == ["red", "green", "blue"]


@pytest.mark.parametrize("color", ["n", "MYC"])
def test_numbers_and_genes_share_one_scale(adata, color):
    axes = pl.embedding(adata, use_rep=["X_a", "X_b"], color=color, layout=None)
    values = adata.obs["n"] if color == "n" else adata.X[:, 1]
    for ax in axes:
        points = ax.collections[-1]
        assert points.get_clim() == (values.min(), values.max())
        assert sorted(points.get_array()) == sorted(values)
    assert axes[0].figure.axes[-1].get_ylabel() == color


def test_rows_without_a_value_are_grey_and_named(adata):
    adata.obs.loc["g00", "group"] = None
    ax = pl.embedding(adata, use_rep="X_a", color="group", layout=None)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), adata.obsm["X_a"][:1, :2])
    assert len(ax.collections[1].get_offsets()) == 11
    assert ax.figure.legends[0].get_texts()[-1].get_text() == "no value"


@pytest.mark.slow
def test_umap_is_that_of_scanpy_and_leaves_the_data_alone(adata):
    import scanpy as sc

    before = adata.copy()
    ax = pl.embedding(adata, use_rep="X_a", rng=3, n_neighbors=5)
    assert not adata.obsp
    assert list(adata.obsm) == list(before.obsm)
    seed = int(np.random.default_rng(3).integers(2**31))
    sc.pp.neighbors(before, 5, use_rep="X_a", metric="cosine", random_state=seed)
    sc.tl.umap(before, random_state=seed)
    np.testing.assert_allclose(
        np.sort(offsets(ax), axis=0), np.sort(before.obsm["X_umap"], axis=0), rtol=1e-5, atol=1e-5
    )


def test_umap_without_scanpy_says_what_to_install(adata, monkeypatch, refuses):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    with refuses(errors.MissingExtra, package="scanpy"):
        pl.embedding(adata, use_rep="X_a")


def test_embedding_refuses_what_cannot_be_drawn(adata, refuses):
    with refuses(errors.MissingEntry, key="moa", name="color"):
        pl.embedding(adata, use_rep="X_a", color="moa")
    with refuses(errors.UnknownChoice, name="layout", value="tsne"):
        pl.embedding(adata, use_rep="X_a", layout="tsne")
    with refuses(errors.TooFew, number=3, needed=4):
        pl.embedding(adata[:3], use_rep="X_a")
    with refuses(errors.TooFew, number=2, needed=3):
        pl.embedding(adata[:2], use_rep="X_a", layout="pca")
    adata.obsm["X_line"] = adata.obsm["X_a"][:, :1]
    with refuses(errors.WrongShape, where="X_line", shape=(12, 1)):
        pl.embedding(adata, use_rep="X_line")
    adata.obs["n"] = np.nan
    with refuses(errors.NotFinite, where="n"):
        pl.embedding(adata, use_rep="X_a", color="n")


# ---- heatmap


def test_cells_are_cosines_in_the_order_of_the_last_representation(adata):
    axes = pl.heatmap(adata, use_rep=["X_a", "X_b"], perturbation_key="gene")
    unit = {key: x / np.linalg.norm(x, axis=1, keepdims=True) for key, x in adata.obsm.items()}
    order = leaves_list(linkage(pdist(adata.obsm["X_b"], "cosine"), "average", optimal_ordering=True))
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(adata.obs["gene"].iloc[order])
    for ax, key in zip(axes, ["X_a", "X_b"], strict=True):
        cosine = unit[key] @ unit[key].T
        np.testing.assert_allclose(ax.images[0].get_array(), cosine[np.ix_(order, order)], atol=1e-12)
        assert ax.images[0].get_clim() == (-1, 1)
        assert [label.get_text() for label in ax.get_xticklabels()] == list(adata.obs["gene"].iloc[order])
    assert [label.get_text() for label in axes[1].get_yticklabels()] == []


def test_chosen_perturbations_and_known_pairs_in_both_orders(adata):
    known = pd.DataFrame({"gene_a": ["g00", "g08", "g01"], "gene_b": ["g04", "g00", "g11"]})
    chosen = ["g04", "g00", "g08", "g01"]
    ax = pl.heatmap(adata, use_rep="X_a", perturbation_key="gene", perturbations=chosen, relationships=known)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(names) == sorted(chosen)
    marked = {(names[int(a)], names[int(b)]) for a, b in ax.collections[0].get_offsets()}
    assert marked == {("g00", "g04"), ("g04", "g00"), ("g00", "g08"), ("g08", "g00")}


def test_heatmap_refuses_what_it_cannot_show(adata, refuses):
    columns = {"use_rep": "X_a", "perturbation_key": "gene"}
    with refuses(errors.Repeated, items=["g01"]):
        pl.heatmap(anndata.concat([adata, adata[1:2]], index_unique="-"), **columns)
    with refuses(errors.UnknownChoice, name="perturbations", value="TP53"):
        pl.heatmap(adata, **columns, perturbations=["g00", "TP53"])
    with refuses(errors.TooFew, number=1, needed=2):
        pl.heatmap(adata, **columns, perturbations=["g00"])
    genes = [f"g{i}" for i in range(121)]
    many = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=genes), obsm={"X_a": np.ones((121, 2))})
    with refuses(errors.TooMany, number=121, limit=120):
        pl.heatmap(many, **columns)
    with refuses(errors.NothingShared, what="pair of two genes"):
        pl.heatmap(adata, **columns, relationships=pd.DataFrame({"gene_a": ["A"], "gene_b": ["B"]}))


@pytest.mark.parametrize(("n", "size", "step"), [(8, (5, 5), 1), (40, (8, 7), 3), (100, (8, 7), 6)])
def test_names_on_given_axes_are_apart(n, size, step):
    names = [f"g{i:03}" for i in range(n)]
    x = np.random.default_rng(0).normal(size=(n, 5))
    adata = anndata.AnnData(obs=pd.DataFrame({"gene": names}, index=names), obsm={"X_a": x})
    figure, grid = plt.subplots(*((2, 2) if n > 8 else (1, 1)), figsize=size, squeeze=False)
    ax = pl.heatmap(adata, use_rep="X_a", perturbation_key="gene", ax=grid[0, 0])
    figure.draw_without_rendering()
    order = leaves_list(linkage(pdist(x, "cosine"), "average", optimal_ordering=True))
    for axis in (ax.xaxis, ax.yaxis):
        labels = axis.get_ticklabels()
        assert [label.get_text() for label in labels] == [names[i] for i in order[::step]]
        np.testing.assert_array_equal(axis.get_ticklocs(), np.arange(0, n, step))
        points = 72 / figure.dpi * ax.get_window_extent().height * step / n
        assert 6 <= labels[0].get_fontsize() <= points
        assert step == 1 or points * (step - 1) / step < 7  # no more are left out than need be


def test_draws_in_a_part_of_a_figure(adata):
    figure = plt.figure(figsize=(8, 4))
    left, right = figure.subfigures(1, 2)
    pl.embedding(adata, use_rep="X_a", color="n", layout="pca", ax=left.subplots())
    pl.heatmap(adata, use_rep="X_a", perturbation_key="gene", ax=right.subplots())
    assert [part.axes[-1].get_ylabel() for part in (left, right)] == ["n", "Cosine"]
    figure.draw_without_rendering()


def test_a_column_without_values_is_refused(adata, refuses):
    for column in (pd.Categorical([None] * 12, ["a"]), np.full(12, None, dtype=object)):
        adata.obs["batch"] = column
        with refuses(errors.Empty, what="values in batch (color)"):
            pl.embedding(adata, use_rep="X_a", color="batch", layout="pca")


def test_a_category_called_none_is_not_what_is_missing(adata):
    adata.obs["group"] = ["none", None] + ["some"] * 10
    ax = pl.embedding(adata, use_rep="X_a", color="group", layout="pca")
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["none", "some", "no value"]


@pytest.mark.parametrize("color", ["group", "n"])
def test_what_explains_colours_stays_in_the_place_of_given_axes(adata, color):
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.5))
    place, neighbour = (ax.get_window_extent().frozen() for ax in axes)
    ax = pl.embedding(adata, use_rep="X_a", color=color, layout="pca", ax=axes[0])
    figure.draw_without_rendering()
    guide = ax.get_legend() if color == "group" else figure.axes[-1]
    box = guide.get_window_extent() if color == "group" else guide.get_tightbbox()
    assert box.x0 >= ax.get_window_extent().x1 - 1
    assert box.x1 <= place.x1 + 10  # pixels, much less than what is between the axes
    assert ax.get_window_extent().width > place.width / 2
    np.testing.assert_allclose(axes[1].get_window_extent().bounds, neighbour.bounds)


def test_a_palette_is_no_name(adata, refuses):
    with refuses(errors.WrongType, name="palette", got=str):
        pl.embedding(adata, use_rep="X_a", color="group", layout="pca", palette="tab10")
