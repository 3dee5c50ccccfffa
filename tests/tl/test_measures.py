"""What all measures of an AnnData share."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip import errors, tl

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
QUIET = {"n_permutations": 3, "rng": 0}
MEASURES = {
    tl.recall: QUIET,
    tl.relationship_sets: {},
    tl.similarity: {},
    tl.null_overlap: {"references": "other", "progress_bar": False, **QUIET},
    tl.consistency: QUIET,
    tl.magnitude: {"progress_bar": False, **QUIET},
    tl.knn_accuracy: {"label_key": "moa", **QUIET},
    tl.replicate_retrieval: {},
}
OF_PAIRS = [tl.recall, tl.relationship_sets, tl.similarity, tl.null_overlap]
TWO_AT_A_TIME = [measure for measure in MEASURES if measure is not tl.null_overlap]


def call(measure, adata, known, **change):
    relationships = {"relationships": known} if measure in OF_PAIRS else {}
    return measure(adata, **{"use_rep": "signal", **KEYS, **relationships, **MEASURES[measure], **change})


@pytest.mark.parametrize("measure", MEASURES)
def test_nothing_is_changed_and_a_view_does(measure, adata, known):
    before, known_before = adata.copy(), known.copy()
    view = adata[np.arange(adata.n_obs) % 7 > 0]
    table = call(measure, view, known)
    assert view.is_view
    assert isinstance(table.index, pd.RangeIndex)
    pd.testing.assert_frame_equal(table, call(measure, view.copy(), known))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(known, known_before)
    assert not adata.uns
    assert set(adata.obsm) == set(before.obsm)
    for key in adata.obsm:
        np.testing.assert_array_equal(adata.obsm[key], before.obsm[key])


@pytest.mark.parametrize("measure", TWO_AT_A_TIME)
def test_representations_are_measured_one_by_one_under_the_same_seed(measure, adata, known):
    adata.obsm["again"] = adata.obsm["signal"]
    adata.obsm["compressed"] = sparse.csr_matrix(adata.obsm["signal"])
    table = call(measure, adata, known, use_rep=["signal", "noise", "again", "compressed", "noise"])
    alone = call(measure, adata, known)
    if measure is tl.relationship_sets:
        for name in ("again", "compressed"):
            pd.testing.assert_series_equal(table[name], alone["signal"], check_names=False)
        return
    assert list(table["representation"].unique()) == ["signal", "noise", "again", "compressed"]
    for name in ("signal", "again", "compressed"):
        part = table[table["representation"] == name].assign(representation="signal")
        pd.testing.assert_frame_equal(part.reset_index(drop=True), alone)


@pytest.mark.parametrize("measure", [tl.recall, tl.null_overlap, tl.consistency, tl.magnitude, tl.knn_accuracy])
def test_the_seed_decides(measure, adata, known):
    change = {"n_permutations": 40, "max_controls": 20} if measure is tl.magnitude else {"n_permutations": 40}
    one, same, other = (call(measure, adata, known, rng=seed, **change) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


@pytest.mark.parametrize("measure", OF_PAIRS)
def test_the_default_relationships_are_those_of_the_datasets(measure, adata, known, monkeypatch):
    monkeypatch.setattr(scl.datasets, "relationships", lambda: known)
    pd.testing.assert_frame_equal(call(measure, adata, None), call(measure, adata, known))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"use_rep": "X_none"}, errors.MissingEntry, {"key": "X_none", "name": "use_rep"}),
        ({"perturbation_key": "guide"}, errors.MissingColumn, {"key": "guide", "name": "perturbation_key"}),
        ({"batch_key": "run"}, errors.MissingColumn, {"key": "run", "name": "batch_key"}),
        ({"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"control": ["EGFP", "DMSO"]}, errors.UnknownControl, {"labels": ["DMSO"]}),
        ({"method": "combat"}, errors.UnknownChoice, {"name": "method", "value": "combat"}),
        ({"ridge": -1}, errors.BadValue, {"name": "ridge", "value": -1}),
    ],
)
def test_refuses_arguments(measure, adata, known, refuses, change, error, data):
    with refuses(error, **data):
        call(measure, adata, known, **change)


@pytest.mark.parametrize("measure", MEASURES)
def test_refuses_data(measure, adata, known, refuses, monkeypatch):
    monkeypatch.setattr(scl.datasets, "relationships", lambda: pytest.fail("fetched for nothing"))
    with refuses(errors.Empty, what="observations in the AnnData"):
        call(measure, adata[:0], None)
    alone = adata[adata.obs["gene"].isin(["EGFP", "LACZ"])]
    with pytest.raises(errors.Empty if measure is not tl.knn_accuracy else errors.SemiclipError):
        call(measure, alone, None)
    lonely = adata[(adata.obs["plate"] != "2") | ~adata.obs["gene"].isin(["EGFP", "LACZ"])]
    if measure is not tl.magnitude:  # which leaves controls out of the correction
        with refuses(errors.TooFewControls, batches={"2": 0}):
            call(measure, lonely, known)
    adata.obsm["signal"][3, 0] = np.nan
    with refuses(errors.NotFinite, rows=["well3"]):
        call(measure, adata, None)
    adata.obs.loc["well5", "gene"] = np.nan
    with refuses(errors.MissingValues, rows=["well5"]):
        call(measure, adata, None, use_rep="noise")


@pytest.mark.parametrize("measure", TWO_AT_A_TIME)
def test_refuses_to_measure_nothing(measure, adata, known, refuses):
    with refuses(errors.BadValue, name="use_rep", value=[]):
        call(measure, adata, known, use_rep=[])


@pytest.mark.parametrize("measure", OF_PAIRS)
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"thresholds": (0.9, 0.1)}, ValueError),
        ({"thresholds": 0.05}, ValueError),
        ({"thresholds": [(0.05, 0.95), (0.05, 0.95)]}, ValueError),
        ({"relationships": "CORUM"}, TypeError),
        ({"perturbation_key": "plate", "control": "0", "batch_key": None}, ValueError),  # a map of two
    ],
)
def test_refuses_what_maps_refuse(measure, adata, known, change, error):
    with pytest.raises(error):
        call(measure, adata, known, **change)
