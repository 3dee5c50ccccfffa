from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip import metrics
from semiclip.correction import correct
from semiclip.tl import _similarity, recall, relationship_sets, similarity

KEYS = {"perturbation_key": "gene", "control": "control", "batch_key": "plate"}
GENES = [f"GENE{i:02}" for i in range(24)]


@pytest.fixture
def adata():
    """24 genes and controls in two batches that differ by an offset."""
    rng = np.random.default_rng(0)
    genes = np.array([*GENES * 3, *["control"] * 40])
    plate = np.arange(len(genes)) % 2
    x = rng.normal(size=(len(genes), 5)) + 3 * plate[:, None]
    obs = pd.DataFrame({"gene": genes, "plate": plate.astype(str)}, index=[f"well{i}" for i in range(len(genes))])
    return anndata.AnnData(obs=obs, obsm={"one": x, "two": rng.normal(size=(len(genes), 3))})


@pytest.fixture
def known():
    return pd.DataFrame({"gene_a": GENES[::2], "gene_b": GENES[1::2]})


@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_equals_the_steps_by_hand(adata, known, method):
    table = similarity(
        adata, use_rep=["one", "two"], relationships=known, method=method, n_bins=10, thresholds=(0.1, 0.9), **KEYS
    )
    assert list(table) == [
        *["representation", "low", "high", "n_all", "n_annotated", "all", "annotated", "cut_low", "cut_high"]
    ]
    assert table["representation"].tolist() == ["one"] * 10 + ["two"] * 10
    control = (adata.obs["gene"] == "control").to_numpy()
    for name, part in table.groupby("representation"):
        x = adata.obsm[name]
        if method:
            x = correct(x, adata.obs["plate"].astype(int).to_numpy(), control, method=method)
        means = pd.DataFrame(x[~control]).groupby(adata.obs["gene"].to_numpy()[~control]).mean()
        expected = metrics.similarity(means.to_numpy(), means.index, known, thresholds=(0.1, 0.9), n_bins=10)
        pd.testing.assert_frame_equal(part.drop(columns="representation").reset_index(drop=True), expected)


def test_the_map_is_that_of_recall(adata, known):
    table = similarity(adata, use_rep="one", relationships=known, **KEYS)
    union = recall(adata, use_rep="one", relationships=known, **KEYS).set_index("key").loc["union"]
    assert table["n_annotated"].sum() == union["n_pairs"]
    assert table["n_all"].sum() == union["n_genes"] * (union["n_genes"] - 1) // 2
    surely = (table["high"] < table["cut_low"]) | (table["low"] > table["cut_high"])
    perhaps = (table["low"] < table["cut_low"]) | (table["high"] > table["cut_high"])
    counts = table["n_annotated"]
    assert counts[surely].sum() <= union["n_recalled"] <= counts[perhaps].sum()


def test_the_default_relationships_are_those_of_the_datasets(adata, known, monkeypatch):
    monkeypatch.setattr(_similarity.datasets, "relationships", lambda: known)
    expected = similarity(adata, use_rep="one", relationships=known, **KEYS)
    pd.testing.assert_frame_equal(similarity(adata, use_rep="one", **KEYS), expected)


def test_nothing_is_changed_and_a_view_does(adata, known):
    before = adata.copy()
    view = adata[np.arange(adata.n_obs) % 5 > 0]
    similarity(view, use_rep="one", relationships=known, **KEYS)
    assert view.is_view
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert not adata.uns
    np.testing.assert_array_equal(adata.obsm["one"], before.obsm["one"])


def test_refuses_what_recall_refuses(adata, known):
    with pytest.raises(KeyError, match="use_rep='three' is not in obsm"):
        similarity(adata, use_rep="three", relationships=known, **KEYS)
    with pytest.raises(ValueError, match="use_rep names no representation"):
        similarity(adata, use_rep=[], relationships=known, **KEYS)
    with pytest.raises(ValueError, match="n_bins=0 must be a whole number of at least 1"):
        similarity(adata, use_rep="one", relationships=known, n_bins=0, **KEYS)
    for function in (similarity, relationship_sets):
        with pytest.raises(ValueError, match="are 2 pairs, and one is needed here; call once for each"):
            function(adata, use_rep="one", relationships=known, thresholds=[(0.05, 0.95), (0.1, 0.9)], **KEYS)
        with pytest.raises(ValueError, match=r"thresholds=\(0.05,\) must be two quantiles"):
            function(adata, use_rep="one", relationships=known, thresholds=0.05, **KEYS)


@pytest.mark.parametrize("function", [recall, relationship_sets, similarity])
def test_refuses_controls_alone_and_no_table(adata, known, function):
    with pytest.raises(ValueError, match="all 40 rows are controls, so there is no perturbation to look at"):
        function(adata[adata.obs["gene"] == "control"], use_rep="one", relationships=known, **KEYS)
    with pytest.raises(TypeError, match="relationships is a str, not a DataFrame"):
        function(adata, use_rep="one", relationships="CORUM", **KEYS)
