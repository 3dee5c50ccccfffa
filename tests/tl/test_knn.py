import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip import metrics
from semiclip.correction import correct
from semiclip.tl._knn import knn_accuracy

KEYS = {"label_key": "moa", "perturbation_key": "drug", "control": "DMSO", "batch_key": "plate"}


@pytest.fixture
def adata():
    """Twelve drugs of three mechanisms and controls in three batches that differ by an offset."""
    rng = np.random.default_rng(0)
    drugs = [f"drug{i:02}" for i in range(12)]
    drug = rng.permutation(np.append(np.repeat(drugs, 6), ["DMSO"] * 30))
    moa = pd.Series(drug).map({name: f"moa{i % 3}" for i, name in enumerate(drugs)} | {"DMSO": "none"})
    plate = rng.integers(0, 3, len(drug))
    means = {"moa0": [2, 0, 0, 0], "moa1": [0, 2, 0, 0], "moa2": [0, 0, 2, 0], "none": [0, 0, 0, 0]}
    x = np.stack([means[label] for label in moa]) + rng.normal(size=(len(drug), 4)) + 6 * rng.normal(size=(3, 4))[plate]
    obs = pd.DataFrame({"drug": pd.Categorical(drug), "moa": moa.to_numpy(), "plate": plate.astype(str)})
    obs.index = [f"well{i}" for i in range(len(obs))]
    return anndata.AnnData(obs=obs, obsm={"signal": x, "noise": rng.normal(size=(len(obs), 3)).astype(np.float32)})


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("method", ["tvn", "center", None])
def test_equals_the_steps_by_hand(adata, method, across):
    how = {"n_neighbors": 3, "n_permutations": 5, "rng": 1}
    table = knn_accuracy(adata, use_rep=["signal", "noise"], method=method, across_batches=across, **how, **KEYS)
    assert list(table)[:6] == ["metric", "representation", "key", "value", "n_obs", "chance"]
    assert list(table)[6:] == ["chance_mean", "chance_sd"]
    assert table["key"].tolist() == ["moa", "moa"]
    control, plate = (adata.obs["drug"] == "DMSO").to_numpy(), adata.obs["plate"].astype(int).to_numpy()
    for name, row in table.set_index("representation").iterrows():
        x = adata.obsm[name] if method is None else correct(adata.obsm[name], plate, control, method=method)
        batch = plate[~control] if across else None
        expected = metrics.knn_accuracy(x[~control], adata.obs["moa"].to_numpy()[~control], batch, **how)
        assert row[list(expected)].to_dict() == expected


def test_correction_lets_neighbours_agree_across_batches(adata):
    raw, corrected = (
        knn_accuracy(adata, use_rep="signal", method=method, **KEYS)["value"][0] for method in (None, "center")
    )
    assert corrected > 0.65 > raw


def test_without_batches_all_other_rows_are_neighbours(adata):
    keys = KEYS | {"batch_key": None, "method": None}
    pd.testing.assert_frame_equal(
        knn_accuracy(adata, use_rep="signal", across_batches=True, **keys),
        knn_accuracy(adata, use_rep="signal", across_batches=False, **keys),
    )


def test_nothing_is_changed_and_a_view_does(adata):
    before = adata.copy()
    view = adata[adata.obs["moa"] != "moa2"]
    found = knn_accuracy(view, use_rep="signal", **KEYS)
    pd.testing.assert_frame_equal(found, knn_accuracy(view.copy(), use_rep="signal", **KEYS))
    assert view.is_view
    assert found["chance"][0] == 0.5
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_array_equal(adata.obsm["signal"], before.obsm["signal"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"label_key": "target"}, KeyError, "label_key='target' is not a column of obs"),
        ({"use_rep": "X_none"}, KeyError, "use_rep='X_none' is not in obsm"),
        ({"control": "water"}, ValueError, r"control label\(s\) water match no row"),
        ({"n_neighbors": 70}, ValueError, "n_neighbors=70, but a row has as few as .* rows in other batches"),
        ({"n_permutations": 1}, ValueError, "n_permutations=1: a mean and a standard deviation need at least 2"),
        ({"n_permutations": -1}, ValueError, "n_permutations=-1: a mean and a standard deviation need at least 2"),
    ],
)
def test_refuses(adata, change, error, message):
    with pytest.raises(error, match=message):
        knn_accuracy(adata, **{"use_rep": "signal", **KEYS, **change})


def test_refuses_missing_labels(adata):
    row = adata.obs_names[adata.obs["drug"] != "DMSO"][3]
    adata.obs.loc[row, "moa"] = np.nan
    with pytest.raises(ValueError, match=rf"obs\['moa'\] \(label_key\) has no value in 1 row\(s\): {row}"):
        knn_accuracy(adata, use_rep="signal", **KEYS)


def test_controls_need_no_label(adata):
    expected = knn_accuracy(adata, use_rep="signal", **KEYS)
    adata.obs.loc[adata.obs["drug"] == "DMSO", "moa"] = np.nan
    pd.testing.assert_frame_equal(knn_accuracy(adata, use_rep="signal", **KEYS), expected)


def test_refuses_to_look_in_other_batches_where_there_are_none(adata):
    adata.obs["one"] = "all"
    message = "all treated rows are in one batch of 'one', .*; across_batches=False looks in its own"
    with pytest.raises(ValueError, match=message):
        knn_accuracy(adata, use_rep="signal", **KEYS | {"batch_key": "one"})
    found = knn_accuracy(adata, use_rep="signal", across_batches=False, **KEYS | {"batch_key": "one"})
    pd.testing.assert_frame_equal(found, knn_accuracy(adata, use_rep="signal", **KEYS | {"batch_key": None}))


def test_refuses_controls_alone(adata):
    with pytest.raises(ValueError, match="all 30 rows are controls, so there is no perturbation to look at"):
        knn_accuracy(adata[adata.obs["drug"] == "DMSO"], use_rep="signal", **KEYS)
