import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from semiclip import errors, metrics
from semiclip.correction import correct
from semiclip.tl import null_overlap, relationship_sets

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
QUIET = {**KEYS, "progress_bar": False}
COLUMNS = ["representation", "reference", "threshold_low", "threshold_high", "n_recalled", "n_reference", "n_pairs"]
COLUMNS += ["null_mean", "null_low", "n_permutations", "null_median", "null_high", "overlap", "p_value"]


def recall_pairs(labels, x, known, level):
    mean = pd.DataFrame(x).groupby(labels).mean()
    pairs = metrics.recalled_pairs(mean.to_numpy(), mean.index, known, thresholds=level)
    return set(pairs.loc[pairs["recalled"], ["gene_a", "gene_b"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("control", [["EGFP", "LACZ"], None])
@pytest.mark.parametrize("method", ["tvn", None])
def test_equals_the_steps_by_hand(adata, known, method, control):
    levels, n = [(0.05, 0.95), (0.2, 0.8)], 12
    options = {"relationships": known, "method": method, "thresholds": levels, "n_permutations": n, "rng": 3, **QUIET}
    table = null_overlap(adata, use_rep="signal", references=["other", "noise"], **options | {"control": control})
    assert list(table) == COLUMNS
    assert list(table["reference"]) == ["other", "other", "noise", "noise"]
    assert set(table["representation"]) == {"signal"}
    assert list(zip(table["threshold_low"], table["threshold_high"], strict=True)) == levels * 2

    is_control = adata.obs["gene"].isin(control or []).to_numpy()
    reference = is_control if control else ~is_control
    labels = adata.obs["gene"].astype(str).to_numpy()[~is_control]
    rows = {}
    for key in ("signal", "other", "noise"):
        x = adata.obsm[key]
        if method is not None:
            x = correct(x, adata.obs["plate"].astype(int).to_numpy(), reference, method=method)
        rows[key] = x[~is_control].astype(float)
    rng = np.random.default_rng(3)
    exchanges = [rng.permutation(labels) for _ in range(n)]
    for row in table.to_dict("records"):
        level = (row["threshold_low"], row["threshold_high"])
        recalled, of_reference = (recall_pairs(labels, rows[key], known, level) for key in ("signal", row["reference"]))
        draws = [len(recall_pairs(exchanged, rows["signal"], known, level) & of_reference) for exchanged in exchanges]
        overlap = len(recalled & of_reference)
        assert row["n_pairs"] == 30 + (control is None)  # three pairs are in both databases, one has a control label
        assert (row["n_recalled"], row["n_reference"], row["overlap"]) == (len(recalled), len(of_reference), overlap)
        low, median, high = np.quantile(draws, [0.025, 0.5, 0.975])
        expected = (
            np.mean(draws),
            low,
            n,
            median,
            high,
            overlap,
            (1 + sum(draw >= overlap for draw in draws)) / (1 + n),
        )
        np.testing.assert_allclose([row[name] for name in COLUMNS[7:]], expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["tvn", None])
def test_single_rows_equal_the_steps_by_hand(adata, known, method):
    control = adata.obs["gene"].isin(KEYS["control"])
    adata = adata[control | ~adata.obs["gene"].duplicated()]
    adata = adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()
    options = {"relationships": known, "method": method, "thresholds": (0.1, 0.8), "n_permutations": 30, "rng": 3}
    table = null_overlap(adata, use_rep="signal", references="other", **options, **QUIET)
    control = adata.obs["gene"].isin(KEYS["control"]).to_numpy()
    labels, rows = adata.obs["gene"].astype(str).to_numpy()[~control], {}
    for key in ("signal", "other"):
        x = adata.obsm[key]
        if method is not None:
            x = correct(x, adata.obs["plate"].astype(int).to_numpy(), control, method=method)
        rows[key] = x[~control].astype(float)
    rng, of_reference = np.random.default_rng(3), recall_pairs(labels, rows["other"], known, (0.1, 0.8))
    draws = [
        len(recall_pairs(rng.permutation(labels), rows["signal"], known, (0.1, 0.8)) & of_reference) for _ in range(30)
    ]
    low, median, high = np.quantile(draws, [0.025, 0.5, 0.975])
    overlap = len(recall_pairs(labels, rows["signal"], known, (0.1, 0.8)) & of_reference)
    p_value = (1 + sum(draw >= overlap for draw in draws)) / 31
    expected = [np.mean(draws), low, 30, median, high, overlap, p_value]
    np.testing.assert_allclose(table.loc[0, COLUMNS[7:]].to_numpy(dtype=float), expected, rtol=1e-12)
    assert len(set(draws)) > 3


def test_the_planted_overlap_is_more_than_chance(adata, known):
    options = {"use_rep": "signal", "relationships": known, "n_permutations": 100, "rng": 0, **QUIET}
    table = null_overlap(adata, references=["other", "signal"], **options)
    assert list(table["threshold_low"].unique()) == [0.05, 0.1, 0.15, 0.2, 0.25]
    table = table.set_index("reference")
    narrow = table.loc["other"].iloc[:3]
    assert (narrow["p_value"] < 0.02).all()
    assert (narrow["overlap"] > narrow["null_high"]).all()
    # chance recalls the share of the tails
    tails = table["threshold_low"] + 1 - table["threshold_high"]
    np.testing.assert_allclose(table["null_mean"] / table["n_reference"], tails, atol=0.06)
    itself = table.loc["signal"]
    assert (itself["overlap"] == itself["n_recalled"]).all()
    assert (itself["overlap"] == itself["n_reference"]).all()
    # with wider tails each recalls more, and so does chance
    assert (itself[["n_recalled", "null_mean"]].diff().iloc[1:] > 0).all(axis=None)


def test_counts_are_those_of_the_sets(adata, known):
    options = {"relationships": known, "method": "center"}
    sets = relationship_sets(adata, use_rep=["signal", "other"], **options, **KEYS)
    table = null_overlap(
        adata, use_rep="signal", references="other", thresholds=(0.05, 0.95), n_permutations=1, **options, **QUIET
    )
    counts = [sets["signal"].sum(), sets["other"].sum(), len(sets), (sets["signal"] & sets["other"]).sum()]
    assert table[["n_recalled", "n_reference", "n_pairs", "overlap"]].to_numpy().tolist() == [counts]


def test_p_values_of_noise_are_uniform(known, make_screen):
    values = []
    options = {"relationships": known, "method": None, "thresholds": (0.25, 0.75), "n_permutations": 19, **QUIET}
    for seed in range(30):
        adata = make_screen(seed, n_controls=5)
        rng = np.random.default_rng(100 + seed)
        adata.obsm["more noise"] = rng.normal(size=(adata.n_obs, 5))
        table = null_overlap(adata, use_rep="noise", references="more noise", rng=rng, **options)
        values.append(table.loc[0, "p_value"])
    assert kstest(values, "uniform").pvalue > 0.001
    assert np.mean(np.array(values) <= 0.05) < 0.2


def test_references_may_lie_in_another_object_with_other_rows_and_genes(adata, known, make_screen):
    images = make_screen(2)
    images = images[images.obs["gene"] != "GENE03"].copy()
    images.obsm["X_image"] = images.obsm["other"]
    levels = {"relationships": known, "thresholds": (0.1, 0.9)}
    options = {"use_rep": "signal", "n_permutations": 5, "rng": 0, **levels, **QUIET}
    table = null_overlap(adata, references={"X_image": images, "other": adata}, **options)
    assert list(table["reference"]) == ["X_image", "other"]
    same = null_overlap(adata, references=["noise", "other"], **options)
    pd.testing.assert_frame_equal(table.tail(1), same.tail(1))

    sets = relationship_sets(adata, use_rep="signal", **levels, **KEYS)
    of_images = relationship_sets(images, use_rep="X_image", **levels, **KEYS)
    both = sets.merge(of_images, on=["gene_a", "gene_b"])
    assert list(table["n_pairs"]) == [len(both), len(sets)]
    assert len(both) < len(sets)
    assert table.loc[0, "n_reference"] == of_images["X_image"].sum()
    assert table.loc[0, "overlap"] == (both["signal"] & both["X_image"]).sum()


def test_neither_seed_nor_order_of_rows_matter_to_what_is_recalled(adata, known):
    options = {"use_rep": "signal", "references": "other", "relationships": known, "n_permutations": 30, **QUIET}
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)]
    one, other = (null_overlap(data, **options) for data in (adata, shuffled))
    of_chance = [name for name in COLUMNS if name.startswith("null_")] + ["p_value"]
    pd.testing.assert_frame_equal(one.drop(columns=of_chance), other.drop(columns=of_chance))


@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        *(({"n_permutations": n}, errors.BadValue, {"name": "n_permutations", "value": n}) for n in (0, 2.5, True)),
        ({"references": []}, errors.BadValue, {"name": "references"}),
        ({"references": {}}, errors.BadValue, {"name": "references"}),
        ({"references": "X_none"}, errors.MissingEntry, {"key": "X_none"}),
        ({"use_rep": ["other", "noise"]}, errors.WrongType, {"name": "use_rep", "got": list}),
    ],
)
def test_refuses(adata, known, refuses, change, error, data):
    with refuses(error, **data):
        null_overlap(adata, **{"use_rep": "signal", "references": "other", "relationships": known, **QUIET, **change})


def test_refuses_references_that_share_nothing(adata, known, refuses, make_screen):
    alone, lower = adata[adata.obs["gene"].isin(["EGFP", "LACZ"])], make_screen(2)
    with refuses(errors.Empty, what="treated rows"):
        null_overlap(adata, use_rep="other", references={"other": alone}, relationships=known, **QUIET)
    lower.obs["gene"] = [label if label in QUIET["control"] else label.lower() for label in lower.obs["gene"]]
    both = pd.concat([known, known.assign(**{name: known[name].str.lower() for name in ("gene_a", "gene_b")})])
    with refuses(errors.NothingShared, what="annotated pair"):
        null_overlap(adata, use_rep="other", references={"other": lower}, relationships=both, **QUIET)
