"""Neighbours of perturbations, against loops over all pairs and over exchanges."""

import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.correction import correct
from semiclip.metrics._nearest import VALUES, read_closeness
from semiclip.tl import aggregate, nearest

KEYS = {"perturbation_key": "gene", "control": ["EGFP", "LACZ"], "batch_key": "plate"}
NONE = {"n_permutations": 0}
SILENT = {"progress_bar": False}


def read_by_hand(adata, key):
    """Return the corrected treated rows and their genes."""
    control = adata.obs["gene"].isin(["EGFP", "LACZ"]).to_numpy()
    x = correct(adata.obsm[key], adata.obs["plate"].astype(int).to_numpy(), control)[~control].astype(float)
    return x, adata.obs["gene"].astype(str).to_numpy()[~control]


def cosines_by_hand(x, labels):
    """Return the cosine of each ordered pair of two genes."""
    means = {gene: x[labels == gene].mean(axis=0) for gene in sorted(set(labels))}
    unit = {gene: mean / np.sqrt(mean @ mean) for gene, mean in means.items()}
    return {(a, b): round(float(unit[a] @ unit[b]), 10) for a in unit for b in unit if a != b}


def rank_by_hand(cosines, gene, among, *, opposite):
    """Return the other genes, the nearest (or most opposite) first."""
    others = [other for other in among if other != gene]
    return sorted(others, key=lambda other: (cosines[gene, other] * (1 if opposite else -1), other))


@pytest.fixture
def images(make_screen):
    """Other samples, without two of the genes and with one more."""
    images = make_screen(2)
    images = images[~images.obs["gene"].isin(["GENE03", "GENE20"])].copy()
    images.obs["gene"] = images.obs["gene"].astype(str).replace({"GENE07": "ELSE"})
    images.obsm["X_image"] = images.obsm["other"]
    return images


@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize(("student", "teacher"), [("noise", "X_image"), ("X_image", "noise")])
def test_neighbours_and_their_places_elsewhere_are_those_of_loops(adata, images, known, student, teacher, opposite):
    sources = {"noise": adata, "X_image": images}
    options = {"references": sources, "student_rep": student, "teacher_rep": teacher, "relationships": known}
    table = nearest(adata, use_rep="signal", n_neighbors=6, n_near=4, opposite=opposite, **options, **KEYS, **NONE)
    own = cosines_by_hand(*read_by_hand(adata, "signal"))
    genes = sorted({gene for gene, _ in own})
    elsewhere = {key: cosines_by_hand(*read_by_hand(data, key)) for key, data in sources.items()}
    pairs = {}
    for row in known.itertuples():
        pairs.setdefault(frozenset([row.gene_a, row.gene_b]), []).append(row.database)
    rows = iter(table.to_dict("records"))
    seen = set()
    for gene in genes:
        for rank, other in enumerate(rank_by_hand(own, gene, genes, opposite=opposite)[:6], 1):
            row = next(rows)
            assert (row["perturbation"], row["neighbour"], row["rank"]) == (gene, other, rank)
            assert row["cosine"] == pytest.approx(own[gene, other], abs=1e-7)
            databases = pairs.get(frozenset([gene, other]), [])
            # in the order in which the table names them
            expected = ";".join(name for name in ("within", "across") if name in databases)
            assert (row["known"], row["databases"]) == (expected != "", expected)
            ranks = {}
            for key, cosines in elsewhere.items():
                if (gene, other) not in cosines:
                    assert pd.isna(row[f"rank_{key}"])
                    assert np.isnan(row[f"cosine_{key}"])
                    continue
                assert row[f"cosine_{key}"] == pytest.approx(cosines[gene, other], abs=1e-7)
                shared = [name for name in genes if name in {one for one, _ in cosines}]
                ranks[key] = rank_by_hand(cosines, gene, shared, opposite=opposite).index(other) + 1
                assert row[f"rank_{key}"] == ranks[key]
            if student not in ranks:
                evidence = "not measured"
            elif ranks[student] <= 4:
                evidence = "known to expression"
            elif teacher not in ranks:
                evidence = "not measured"
            else:
                evidence = "gained by images" if ranks[teacher] <= 4 else "distilled alone"
            assert row["evidence"] == evidence
            seen.add(evidence)
    assert next(rows, None) is None
    assert len(seen) == 4


@pytest.mark.parametrize("opposite", [False, True])
def test_p_values_count_exchanges(adata, known, opposite):
    options = {"query": ["GENE09", "GENE02"], "n_neighbors": 3, "opposite": opposite, "relationships": known}
    table = nearest(adata, use_rep="signal", n_permutations=60, rng=4, **options, **KEYS, **SILENT)
    assert table["perturbation"].tolist() == ["GENE09"] * 3 + ["GENE02"] * 3
    x, labels = read_by_hand(adata, "signal")
    rng, sign = np.random.default_rng(4), -1 if opposite else 1
    pair, best = np.zeros(6), np.zeros(6)
    neighbours = ["perturbation", "neighbour", "cosine"]
    for _ in range(60):
        cosines = cosines_by_hand(x, rng.permutation(labels))
        for i, (gene, other, value) in enumerate(zip(*table[neighbours].to_numpy().T, strict=True)):
            pair[i] += sign * cosines[gene, other] >= sign * value
            best[i] += max(sign * cosine for (one, _), cosine in cosines.items() if one == gene) >= sign * value
    np.testing.assert_allclose(table["p_value"], (1 + pair) / 61)
    np.testing.assert_allclose(table["p_adjusted"], (1 + best) / 61)
    assert pair.sum() < best.sum()


def test_p_values_of_pairs_that_know_nothing_are_uniform_and_those_adjusted_allow_for_the_choice(make_screen, known):
    """A nearest neighbour of noise often has a small p-value by itself, and seldom a small adjusted one."""
    pairs, adjusted = [], []
    for seed in range(4):
        screen = make_screen(seed)
        table = nearest(screen, use_rep="noise", n_neighbors=40, n_permutations=100, rng=seed,
                        relationships=known, **KEYS, **SILENT)  # fmt: skip
        assert len(table) == 30 * 29  # all others, where there are fewer
        pairs.append(table["p_value"])
        adjusted.append(table.loc[table["rank"] == 1, "p_adjusted"])
    assert np.mean(np.concatenate(pairs) <= 0.1) == pytest.approx(0.1, abs=0.03)
    assert np.mean(np.concatenate(adjusted) <= 0.1) < 0.25


def test_an_aggregate_gives_the_same_neighbours(adata, images, known):
    options = {"n_neighbors": 5, "relationships": known, **NONE}
    roles = {"student_rep": "noise", "teacher_rep": "X_image"}
    rows = nearest(adata, use_rep="signal", references={"noise": adata, "X_image": images}, **roles, **options, **KEYS)
    genes = aggregate(adata, use_rep=["signal", "noise"], **KEYS)
    sources = {"noise": genes, "X_image": aggregate(images, use_rep="X_image", **KEYS)}
    as_is = {"perturbation_key": "gene", "control": None, "method": None}
    table = nearest(genes, use_rep="signal", references=sources, **roles, **options, **as_is)
    pd.testing.assert_frame_equal(table, rows)
    with pytest.raises(errors.Conflict):
        nearest(genes, use_rep="signal", **options, **{**as_is, "method": "tvn"})


def test_queries_are_rows_of_the_whole_in_their_order(adata, known):
    options = {"use_rep": "signal", "references": ["noise", "other"], "relationships": known, **NONE, **KEYS}
    whole = nearest(adata, **options)
    assert {"rank_noise", "cosine_other"} <= set(whole)
    assert "evidence" not in whole
    for query in ("GENE11", ["GENE11", "GENE00"]):
        rows = pd.concat([whole[whole["perturbation"] == name] for name in np.atleast_1d(query)], ignore_index=True)
        pd.testing.assert_frame_equal(nearest(adata, query=query, **options), rows)


def test_equal_cosines_come_in_alphabetical_order_and_blocks_change_nothing():
    unit = np.array([[1.0, 0], [0, 1], [0, 1], [1, 0], [-1, 0]])
    (rows, block), = read_closeness(unit, np.array([4, 1]), opposite=True)  # fmt: skip
    assert (rows, block.tolist()) == (slice(0, 2), [[1, 0, 0, 1, -np.inf], [0, -np.inf, -1, 0, 0]])
    many = np.random.default_rng(0).normal(size=(3000, 3))
    blocks = list(read_closeness(many, np.arange(3000)))
    assert len(blocks) > 3000 * 3000 // VALUES
    expected = many @ many.T
    np.fill_diagonal(expected, -np.inf)
    np.testing.assert_allclose(np.vstack([block for _, block in blocks]), expected, atol=1e-11)


def test_no_relationship_may_be_known(adata):
    empty = pd.DataFrame(columns=["gene_a", "gene_b"])
    table = nearest(adata, use_rep="signal", query="GENE00", relationships=empty, **NONE, **KEYS)
    assert not table["known"].any()
    assert (table["databases"] == "").all()


def test_refusals(adata, images, known, refuses):
    options = {"use_rep": "signal", "relationships": known, **NONE, **KEYS}
    with refuses(errors.UnknownChoice, name="query", value="GENE1"):
        nearest(adata, query=["GENE01", "GENE1"], **options)
    with pytest.raises(errors.UnknownChoice, match="did you mean 'GENE01'"):
        nearest(adata, query="GENE_01", **options)
    with refuses(errors.UnknownChoice, name="query", value="EGFP"):
        nearest(adata, query="EGFP", **options)
    with refuses(errors.BadValue, name="query"):
        nearest(adata, query=[], **options)
    with refuses(errors.BadValue, name="n_neighbors", value=0):
        nearest(adata, n_neighbors=0, **options)
    with refuses(errors.WrongType, name="use_rep"):
        nearest(adata, **{**options, "use_rep": ["signal"]})
    with refuses(errors.NotGiven, name="teacher_rep"):
        nearest(adata, references="noise", student_rep="noise", **options)
    with refuses(errors.UnknownChoice, name="teacher_rep", value="X_image"):
        nearest(adata, references="noise", student_rep="noise", teacher_rep="X_image", **options)
    with refuses(errors.BadValue, name="references"):
        nearest(adata, references={}, **options)
    with refuses(errors.MissingEntry, key="X_image"):
        nearest(adata, references="X_image", **options)
    with refuses(errors.MissingColumn, key="moa"):
        del images.obs["moa"]
        nearest(adata, references={"X_image": images}, **{**options, "perturbation_key": "moa", "control": None})
    images.obs["gene"] = images.obs["gene"].replace({f"GENE{i:02}": f"ENSG{i:02}" for i in range(30)})
    with refuses(errors.NothingShared, sides=("signal", "X_image")):
        nearest(adata, references={"X_image": images}, **options)
    with refuses(errors.NothingShared, sides=("relationships", "the map")):
        nearest(adata, **{**options, "relationships": known.replace("GENE", "ENSG", regex=True)})
    one = adata[adata.obs["gene"].isin(["GENE00", "EGFP", "LACZ"])].copy()
    with refuses(errors.TooFew, number=1, needed=2):
        nearest(one, **options)
