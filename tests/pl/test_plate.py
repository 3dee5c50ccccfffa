"""What stands in which well."""

import anndata
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from semiclip import errors, pl


@pytest.fixture
def adata():
    """Two plates of 96 wells, controls in the first column, and a well with three rows on the first plate."""
    wells = [f"{row}{column:02}" for row in "ABCDEFGH" for column in range(1, 13)]
    obs = pd.DataFrame({"plate": np.repeat(["p1", "p2"], 96), "well": wells * 2})
    obs = pd.concat([obs, pd.DataFrame({"plate": "p1", "well": ["B02", "b2"]})], ignore_index=True)
    obs["drug"] = np.where(obs["well"].str[1:].astype(int) == 1, "DMSO", "drug")
    obs["n_cells"] = np.arange(len(obs)) * 1.0
    obs["kind"] = pd.Categorical(["a"] * 96 + ["b"] * 96 + ["c", "c"])
    obs.index = [f"w{i}" for i in range(len(obs))]
    return anndata.AnnData(obs=obs, obsm={"X_image": np.random.default_rng(0).normal(size=(len(obs), 5))})


def read_wells(ax):
    return np.ma.filled(ax.images[1].get_array().astype(float), np.nan)


def test_wells_show_their_mean_and_plates_share_a_scale(adata):
    axes = pl.plate(adata, color="n_cells", batch_key="plate")
    assert [ax.get_title() for ax in axes] == ["p1", "p2"]
    expected = np.arange(96.0).reshape(8, 12)
    expected[1, 1] = (13 + 192 + 193) / 3
    np.testing.assert_allclose(read_wells(axes[0]), expected)
    np.testing.assert_allclose(read_wells(axes[1]), np.arange(96, 192).reshape(8, 12))
    assert {ax.images[1].get_clim() for ax in axes} == {(0, 193)}
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list("ABCDEFGH")
    assert [label.get_text() for label in axes[0].get_xticklabels()] == [str(i) for i in range(1, 13)]


def test_without_a_batch_key_plates_lie_on_top_of_each_other(adata):
    ax = pl.plate(adata, color="n_cells")
    assert ax.get_title() == ""
    assert read_wells(ax)[0, 0] == (0 + 96) / 2
    assert read_wells(ax)[1, 1] == (13 + 109 + 192 + 193) / 4


def test_names_show_the_most_frequent_and_have_a_legend(adata):
    ax = pl.plate(adata, color="kind", batch_key="plate", batches="p1")
    codes = read_wells(ax)
    assert codes[1, 1] == 2
    assert (np.delete(codes.ravel(), 13) == 0).all()
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_empty_wells_stay_white_and_those_without_a_value_are_grey(adata):
    adata.obs.loc["w3", "n_cells"] = np.nan
    ax = pl.plate(adata[:20].copy(), color="n_cells")
    there = ~np.isnan(np.ma.filled(ax.images[0].get_array().astype(float), np.nan))
    assert there.ravel().tolist() == [True] * 20 + [False] * 76
    assert np.isnan(read_wells(ax)).ravel().tolist() == [i == 3 or i >= 20 for i in range(96)]


@pytest.mark.parametrize("control", ["DMSO", None])
def test_distance_from_the_controls_of_the_plate(adata, control):
    columns = {"perturbation_key": "drug", "control": control, "batch_key": "plate"}
    axes = pl.plate(adata, use_rep="X_image", **columns)
    x, obs, place = adata.obsm["X_image"], adata.obs, np.array([*range(96), *range(96), 13, 13])
    for ax, plate in zip(axes, ["p1", "p2"], strict=True):
        inside = (obs["plate"] == plate).to_numpy()
        reference = inside & (obs["drug"] == "DMSO").to_numpy() if control else inside
        distance = np.linalg.norm(x - x[reference].mean(axis=0), axis=1)
        wells = read_wells(ax)
        for well, value in enumerate(wells.ravel()):
            assert value == pytest.approx(distance[inside & (place == well)].mean()), well
    assert axes[0].figure.axes[-1].get_ylabel() == "Distance from the controls (X_image)"


@pytest.mark.parametrize(("last", "shape"), [("B03", (2, 3)), ("D06", (4, 6)), ("P24", (16, 24)), ("AF48", (32, 48))])
def test_the_smallest_format_that_holds_all_wells(adata, last, shape):
    one = adata[:1].copy()
    one.obs["well"] = last
    ax = pl.plate(one, color="n_cells")
    assert ax.images[0].get_array().shape == shape
    letters = [label.get_text() for label in ax.get_yticklabels()]
    assert letters[:2] == (["A", "B"] if shape[0] < 32 else ["A", "C"])


def test_refuses_what_cannot_be_drawn(adata, refuses):
    with refuses(errors.NotGiven, name="color"):
        pl.plate(adata)
    with refuses(errors.Conflict, first="color", second="use_rep"):
        pl.plate(adata, color="kind", use_rep="X_image")
    with refuses(errors.UnknownChoice, name="batches", value="p3"):
        pl.plate(adata, color="kind", batch_key="plate", batches=["p1", "p3"])
    adata.obs["many"] = [f"plate {i % 13}" for i in range(adata.n_obs)]
    with refuses(errors.TooMany, number=13, limit=12):
        pl.plate(adata, color="kind", batch_key="many")
    with refuses(errors.TooFewControls, batches={"p2": 0}, needed=1, total=8):
        lacking = adata[(adata.obs["plate"] == "p1") | (adata.obs["drug"] != "DMSO")].copy()
        pl.plate(lacking, use_rep="X_image", perturbation_key="drug", control="DMSO", batch_key="plate")
    adata.obs["well"] = "somewhere"
    with refuses(errors.Refused, items=list(adata.obs_names)):
        pl.plate(adata, color="kind")


def test_letters_on_small_axes_are_apart(assert_apart):
    names = [f"{'ABCDEFGHIJKLMNOP'[i % 16]}{i // 16 + 1:02}" for i in range(384)]
    wells = anndata.AnnData(obs=pd.DataFrame({"well": names, "gene": [f"g{i % 30:02}" for i in range(384)]}, names))
    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    ax = pl.plate(wells, color="gene", ax=axes[0, 0])
    figure.draw_without_rendering()
    for axis in (ax.xaxis, ax.yaxis):
        assert len(axis.get_ticklabels()) >= 4
        assert_apart(axis.get_ticklabels())
    assert not ax.get_legend().get_window_extent().overlaps(axes[0, 1].get_window_extent())


@pytest.mark.parametrize("well", ["AF49", "AG01", "ZZ99"])
def test_wells_beyond_the_largest_plate_are_refused_by_name(adata, well, refuses):
    adata.obs["well"] = [well, "AF48", *adata.obs["well"][2:]]
    where = "obs['well'] (well_key) holds wells beyond AF48, the last of the largest plate"
    with refuses(errors.Refused, problem=where, items=[well]):
        pl.plate(adata, color="plate")
