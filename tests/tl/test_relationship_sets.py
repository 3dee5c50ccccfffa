"""Recalled pairs beside chance, at several thresholds and in other objects."""

import numpy as np
import pandas as pd
import pytest

from semiclip import errors, metrics, pl
from semiclip.correction import correct
from semiclip.tl import enrich, gains_losses, overlap, recall, region, relationship_sets

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
LEVELS = [(0.1 / 3, 0.95), (0.1, 0.9), (0.25, 0.8)]
GENES = ["gene_a", "gene_b"]
PERMUTED = {"baselines": ["permuted"], "rng": 3}


def recall_by_hand(adata, key, known, level, seed=None):
    """Return the recalled pairs from scikit-like steps: correct, exchange, average, judge."""
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x = correct(adata.obsm[key], adata.obs["plate"].astype(int).to_numpy(), control)[~control].astype(float)
    labels = adata.obs["gene"].astype(str).to_numpy()[~control]
    if seed is not None:
        labels = np.random.default_rng(seed).permutation(labels)
    mean = pd.DataFrame(x).groupby(labels).mean()
    pairs = metrics.recalled_pairs(mean.to_numpy(), mean.index, known, thresholds=level)
    return set(pairs.loc[pairs["recalled"], GENES].itertuples(index=False, name=None))


def true_pairs(sets, name):
    return set(sets.loc[sets[name], GENES].itertuples(index=False, name=None))


def at(sets, level):
    return sets[(sets["threshold_low"] == level[0]) & (sets["threshold_high"] == level[1])]


@pytest.fixture
def images(make_screen):
    """Other samples, of other genes and with other rows."""
    images = make_screen(2)
    images = images[~images.obs["gene"].isin(["GENE03", "GENE20"])].copy()
    images.obsm["X_image"] = images.obsm["other"]
    return images


@pytest.fixture
def several(adata, known, images):
    options = {"references": {"X_image": images}, "relationships": known, **PERMUTED}
    return relationship_sets(adata, use_rep=["signal", "noise"], thresholds=LEVELS, **options, **KEYS)


def test_each_column_is_what_the_steps_by_hand_recall(adata, known, images, several):
    names = ["signal", "signal (permuted)", "noise", "noise (permuted)", "X_image"]
    assert list(several) == [*GENES, "databases", "threshold_low", "threshold_high", *names]
    assert all(several[name].dtype == bool for name in names)
    of_images = relationship_sets(images, use_rep="X_image", relationships=known, **KEYS)
    held = set(of_images[GENES].itertuples(index=False, name=None))
    assert 0 < len(held) < 30
    for level in LEVELS:
        rows = at(several, level)
        assert list(rows[GENES].itertuples(index=False, name=None)) == sorted(held)
        for key in ("signal", "noise"):
            assert true_pairs(rows, key) == recall_by_hand(adata, key, known, level) & held
            assert true_pairs(rows, f"{key} (permuted)") == recall_by_hand(adata, key, known, level, 3) & held
        assert true_pairs(rows, "X_image") == recall_by_hand(images, "X_image", known, level)


def test_the_exchange_is_the_one_of_recall(adata, known):
    options = {"use_rep": ["signal", "noise"], "relationships": known, **PERMUTED, **KEYS}
    options["baselines"] = ["permuted", "normal", "uniform"]
    sets = relationship_sets(adata, **options)
    table = recall(adata, n_permutations=0, **options).set_index(["representation", "key"])["n_recalled"]
    assert list(sets)[3:] == list(table.index.unique(0))
    for name in list(sets)[3:]:
        for database in ("within", "across"):
            member = sets["databases"].str.split(";").apply(set).ge({database})
            assert sets.loc[member, name].sum() == table[name, database]


def test_several_thresholds_are_single_calls_on_top_of_each_other(adata, known):
    options = {"use_rep": ["signal", "noise"], "relationships": known, **PERMUTED, **KEYS}
    several = relationship_sets(adata, thresholds=LEVELS, **options)
    single = []
    for low, high in LEVELS:
        table = relationship_sets(adata, thresholds=(low, high), **options)
        pd.testing.assert_frame_equal(table, relationship_sets(adata, thresholds=[(low, high)], **options))
        single.append(table.assign(threshold_low=low, threshold_high=high))
    pd.testing.assert_frame_equal(several, pd.concat(single, ignore_index=True)[list(several)])


def test_other_objects_are_a_merge_of_single_calls(adata, known, images):
    options = {"relationships": known, "method": "center", **KEYS}
    sets = relationship_sets(adata, use_rep="signal", references={"X_image": images, "other": adata}, **options)
    one = relationship_sets(adata, use_rep=["signal", "other"], **options)
    merged = one.merge(relationship_sets(images, use_rep="X_image", **options), on=[*GENES, "databases"])
    assert len(merged) < len(one)
    pd.testing.assert_frame_equal(sets, merged[[*GENES, "databases", "signal", "X_image", "other"]])
    # new arguments that say nothing change nothing
    same = relationship_sets(adata, use_rep=["signal", "other"], references=None, baselines=(), rng=1, **options)
    pd.testing.assert_frame_equal(one, same)


def test_counts_are_made_at_each_pair_of_thresholds(several):
    for count in (overlap, lambda sets: gains_losses(sets, base="noise")):
        single = [count(at(several, level).drop(columns=["threshold_low", "threshold_high"])) for level in LEVELS]
        whole = count(several)
        assert list(whole)[:2] == ["threshold_low", "threshold_high"]
        ends = whole[["threshold_low", "threshold_high"]].to_numpy()
        np.testing.assert_array_equal(ends, np.repeat(LEVELS, len(single[0]), axis=0))
        expected = pd.concat(single, ignore_index=True)
        pd.testing.assert_frame_equal(whole.drop(columns=["threshold_low", "threshold_high"]), expected)
        pd.testing.assert_frame_equal(
            count(at(several, LEVELS[1])), whole[len(single[0]) :][: len(single[0])].reset_index(drop=True)
        )
    none = several[:0]
    assert (overlap(none)[["n_pairs", "n_genes"]] == 0).all(axis=None)


SINGLE = {
    "region": lambda sets: region(sets, inside="signal"),
    "enrich": lambda sets: enrich(sets, inside="signal", gene_sets={"x": [f"GENE{i:02}" for i in range(20)]}),
    "venn": pl.venn,
    "relationship_network": lambda sets: pl.relationship_network(sets, inside="signal"),
}


@pytest.mark.parametrize("call", SINGLE.values(), ids=SINGLE)
def test_what_takes_one_pair_of_thresholds_says_how_to_choose_it(several, refuses, call):
    with pytest.raises(errors.TooMany) as caught:
        call(several)
    assert (caught.value.number, caught.value.limit) == (3, 1)
    code = caught.value.way_out.removeprefix("choose one, such as ")
    chosen = eval(code, {"sets": several})
    pd.testing.assert_frame_equal(chosen, at(several, LEVELS[0]))
    call(chosen)


def test_the_picture_of_gains_and_losses_takes_one_pair_of_thresholds(several, refuses):
    table = gains_losses(several, base="noise")
    with refuses(errors.TooMany, number=3, limit=1):
        pl.gains_losses(table)
    drawn = pl.gains_losses(at(table, LEVELS[2]))
    assert len(drawn.get_yticklabels()) == 4


def test_refuses_thresholds_with_gaps(several, refuses):
    with refuses(errors.MissingValues, rows=[0]):
        overlap(several.assign(threshold_low=several["threshold_low"].where(several.index > 0)))


def test_refuses_names_and_objects(adata, known, images, refuses):
    options = {"relationships": known, **KEYS}
    adata.obsm["signal (permuted)"] = adata.obsm["signal"]
    for name in ("threshold_low", "gene_a"):
        with refuses(errors.NameTaken, items=[name]):
            relationship_sets(adata, use_rep=["signal", name], **options)
        with refuses(errors.NameTaken, items=[name]):
            relationship_sets(adata, use_rep="signal", references={name: images}, **options)
    with refuses(errors.NameTaken, items="signal (permuted)"):
        relationship_sets(adata, use_rep=["signal", "signal (permuted)"], **options, **PERMUTED)
    with refuses(errors.Repeated, items=["other"]):
        relationship_sets(adata, use_rep=["signal", "other"], references={"other": images}, **options)
    with refuses(errors.WrongType, name="references", got=str):
        relationship_sets(adata, use_rep="signal", references="other", **options)
    with refuses(errors.UnknownChoice, name="baselines", value="gaussian"):
        relationship_sets(adata, use_rep="signal", baselines=["gaussian"], **options)
    images.obs["gene"] = images.obs["gene"].astype(str).replace({f"GENE{i:02}": f"OTHER{i:02}" for i in range(30)})
    pairs = known.assign(**{gene: known[gene].str.replace("GENE", "OTHER") for gene in GENES})
    with refuses(errors.NothingShared, what="annotated pair", sides=("signal", "X_image")):
        both = pd.concat([known, pairs])
        relationship_sets(adata, use_rep="signal", references={"X_image": images}, **options | {"relationships": both})
