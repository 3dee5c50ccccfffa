"""What positions retrieve, against scikit-learn row by row."""

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from semiclip import errors
from semiclip.correction import correct
from semiclip.tl import position_baseline, replicate_retrieval

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}


@pytest.fixture
def placed(adata):
    """A screen whose wells are random, a few of them shared by rows of one plate."""
    rng = np.random.default_rng(2)
    wells = [f"{'ABCDEFGH'[row]}{column + 1:02}" for row, column in rng.integers([8, 12], size=(adata.n_obs, 2))]
    adata.obs["well"] = wells
    return adata


def average_ties(distance, relevant):
    """Return the mean average precision over the orders of what ties, place by place."""
    total = 0.0
    for value in np.unique(distance.round(6)):
        tied, before = distance.round(6) == value, distance.round(6) < value
        n, r = tied.sum(), (tied & relevant).sum()
        for j in range(n):
            others = (r - 1) * j / (n - 1) if n > 1 else 0
            total += r / n * ((before & relevant).sum() + 1 + others) / (before.sum() + j + 1)
    return total / relevant.sum()


@pytest.mark.parametrize("across", [True, False])
def test_values_equal_sklearn_by_hand(placed, across):
    table = position_baseline(placed, use_rep=["signal", "noise"], across_batches=across, **KEYS)
    assert list(table) == ["representation", "key", "n_obs", "metric", "chance", "value"]
    control = placed.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    plate, wells = placed.obs["plate"].astype(int).to_numpy(), placed.obs["well"].to_numpy()
    gene = placed.obs["gene"].to_numpy()
    place = np.array([["ABCDEFGH".index(well[0]), int(well[1:])] for well in wells])
    distance = np.linalg.norm(place[:, None] - place, axis=2)
    closeness = {"position": None}
    for key in ("signal", "noise"):
        x = correct(placed.obsm[key], plate, control).astype(float)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        closeness[key] = unit @ unit.T
    expected = []
    for name, near in closeness.items():
        for key in ("all positions", "other positions"):
            scores, shares = [], []
            for i in np.flatnonzero(~control):
                candidates = ~control & (np.arange(len(gene)) != i)
                if across:
                    candidates &= plate != plate[i]
                if key == "other positions":
                    candidates &= wells != wells[i]
                relevant = gene[candidates] == gene[i]
                if relevant.any():
                    if near is not None:
                        scores.append(average_precision_score(relevant, near[i, candidates]))
                    else:  # many distances tie, see test_nearby.py
                        scores.append(average_ties(distance[i, candidates], relevant))
                    n, p = len(relevant), relevant.sum()
                    h = (1 / np.arange(1, n + 1)).sum()
                    shares.append((h + (n - h) * (p - 1) / (n - 1)) / n)
            expected.append((name, key, np.mean(scores), len(scores), np.mean(shares)))
    columns = ["representation", "key", "value", "n_obs", "chance"]
    pd.testing.assert_frame_equal(table[columns], pd.DataFrame(expected, columns=columns))
    assert (table["metric"] == "position_baseline").all()


def test_all_positions_are_those_of_replicate_retrieval(placed):
    table = position_baseline(placed, use_rep="signal", **KEYS).set_index(["representation", "key"])
    whole = replicate_retrieval(placed, use_rep="signal", **KEYS).iloc[0]
    columns = ["value", "n_obs", "chance"]
    assert table.loc[("signal", "all positions"), columns].tolist() == whole[columns].tolist()


def test_a_layout_that_all_plates_share_explains_everything(placed):
    codes = placed.obs["gene"].cat.codes
    placed.obs["well"] = [f"{'ABCDEFGH'[code // 12]}{code % 12 + 1}" for code in codes]
    table = position_baseline(placed, use_rep="signal", **KEYS).set_index(["representation", "key"])
    assert table.loc[("position", "all positions"), "value"] == 1
    assert table.loc[("position", "other positions"), "n_obs"] == 0
    assert table.loc[("signal", "other positions"), ["value", "chance"]].isna().all()


def test_spelling_of_wells_does_not_matter(placed):
    expected = position_baseline(placed, use_rep="signal", **KEYS)
    placed.obs["Metadata_Well"] = [f"{well[0].lower()}{int(well[1:])}" for well in placed.obs.pop("well")]
    again = position_baseline(placed, use_rep="signal", well_key="Metadata_Well", **KEYS)
    pd.testing.assert_frame_equal(again, expected)


def test_refuses_what_is_no_well(placed, refuses):
    with refuses(errors.MissingColumn, key="Well", name="well_key"):
        position_baseline(placed, use_rep="signal", well_key="Well", **KEYS)
    treated = placed.obs_names[~placed.obs["gene"].isin(["EGFP", "LACZ"])]
    placed.obs.loc[treated[:2], "well"] = ["nowhere", "A00"]
    with refuses(errors.Refused, items=list(treated[:2])):
        position_baseline(placed, use_rep="signal", **KEYS)


def test_refuses_screens_without_replicates(placed, refuses):
    single = placed[~placed.obs["gene"].duplicated() | placed.obs["gene"].isin(["EGFP", "LACZ"])].copy()
    with refuses(errors.Empty):
        position_baseline(single, use_rep="signal", method="center", **KEYS)


def test_positions_at_random_find_what_chance_does():
    rng, n_plates = np.random.default_rng(0), 4
    genes = np.tile([f"g{i:03}" for i in range(90)], n_plates)
    place = np.concatenate([rng.permutation(96)[:90] for _ in range(n_plates)])
    obs = pd.DataFrame({"gene": genes, "plate": np.repeat(list("abcd"), 90)}, index=[f"w{i}" for i in range(360)])
    obs["well"] = [f"{'ABCDEFGH'[i // 12]}{i % 12 + 1:02}" for i in place]
    adata = anndata.AnnData(obs=obs, obsm={"X_noise": rng.normal(size=(360, 5))})
    options = {"perturbation_key": "gene", "control": None, "batch_key": "plate", "method": None}
    table = position_baseline(adata, use_rep="X_noise", **options)
    np.testing.assert_allclose(table["value"], table["chance"], rtol=0.15)
