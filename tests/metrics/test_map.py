import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.metrics import recalled_pairs, relationship_recall, similarity

PAIR = (0.05, 0.95)
GENES = [f"G{i:02}" for i in range(30)]
MEASURES = [relationship_recall, recalled_pairs, similarity]


def arguments(**change):
    annotated = pd.DataFrame({"database": ["A", "B", "A"], "gene_a": GENES[:3], "gene_b": GENES[3:6]})
    embedding = np.random.default_rng(0).normal(size=(30, 4))
    return {"embedding": embedding, "genes": GENES, "relationships": annotated} | change


@pytest.mark.parametrize("measure", MEASURES)
def test_one_pair_of_thresholds_in_any_form(measure):
    options = {"n_permutations": 0} if measure is relationship_recall else {}
    expected = measure(**arguments(), thresholds=PAIR, **options)
    for thresholds in (list(PAIR), np.array(PAIR), [PAIR], np.array([PAIR])):
        pd.testing.assert_frame_equal(measure(**arguments(), thresholds=thresholds, **options), expected)


@pytest.mark.parametrize("thresholds", [[PAIR, (0, 1)], np.array([PAIR, (0, 1)]), (list(PAIR), np.array([0, 1]))])
def test_several_pairs_of_thresholds(refuses, thresholds):
    table = relationship_recall(**arguments(), thresholds=thresholds, n_permutations=0)
    assert table[["threshold_low", "threshold_high"]].drop_duplicates().to_numpy().tolist() == [[0.05, 0.95], [0, 1]]
    for measure in (recalled_pairs, similarity):
        with refuses(errors.TooMany, number=2, limit=1):
            measure(**arguments(), thresholds=thresholds)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("thresholds", "pair"),
    [
        (0.05, (0.05,)),
        ("0.05", ("0.05",)),
        (("0.05", "0.95"), ("0.05", "0.95")),
        ((None, 0.95), (None, 0.95)),
        ([PAIR, 0.05], (PAIR, 0.05)),
        ([[PAIR]], ([*PAIR],)),
        ([PAIR, ("0.1", "0.9")], ("0.1", "0.9")),
        ([PAIR, (0.9, 0.1)], (0.9, 0.1)),
        ((-0.1, 0.9), (-0.1, 0.9)),
        ((0.1, 1.1), (0.1, 1.1)),
        ((0.1, np.nan), (0.1, np.nan)),
        ([], ()),
    ],
)
def test_other_thresholds_are_refused(refuses, measure, thresholds, pair):
    with refuses(errors.BadValue, name="thresholds", value=pair):
        measure(**arguments(), thresholds=thresholds)
    with refuses(errors.Repeated, items=[PAIR, PAIR]):
        measure(**arguments(), thresholds=[PAIR, PAIR])


def bad_at(row, value):
    embedding = arguments()["embedding"]
    embedding[row, 1] = value
    return {"embedding": embedding}


def pairs(**columns):
    return {"relationships": arguments()["relationships"].assign(**columns)}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("change", "error", "data"),
    [
        ({"embedding": np.ones((19, 4)), "genes": GENES[:19]}, errors.TooFew, {"number": 19, "needed": 20}),
        ({"genes": [GENES[5], *GENES[1:]]}, errors.Repeated, {"items": ["G05"]}),
        *(({"genes": [label, *GENES[1:]]}, errors.WrongDtype, {"where": "genes"}) for label in (np.nan, None, 7)),
        *((bad_at(4, bad), errors.NotFinite, {"where": "embedding", "rows": ["G04"]}) for bad in (np.nan, np.inf)),
        ({"embedding": pd.DataFrame({"a": ["x"] * 30})}, errors.WrongType, {"name": "embedding", "got": pd.DataFrame}),
        ({"genes": GENES[1:]}, errors.WrongShape, {"where": "genes", "shape": (29,)}),
        ({"embedding": np.ones(30)}, errors.WrongShape, {"where": "embedding", "shape": (30,)}),
        *(({"control": mask}, errors.WrongType, {"name": "control"}) for mask in (np.zeros(29, bool), np.zeros(30))),
        ({"relationships": "CORUM"}, errors.WrongType, {"name": "relationships", "got": str}),
        ({"relationships": [("G0", "G1")]}, errors.WrongType, {"name": "relationships", "got": list}),
        ({"relationships": pd.DataFrame({"gene_a": []})}, errors.MissingColumn, {"key": "gene_b", "there": ["gene_a"]}),
        *(
            (pairs(**{name: ["x", None, None]}), errors.MissingValues, {"rows": [1, 2]})
            for name in ("gene_a", "gene_b", "database")
        ),
        (pairs(database=["union", "mean", "x"]), errors.NameTaken, {"items": ["mean", "union"]}),
        (pairs(gene_a="ENSG0"), errors.NothingShared, {"one": ["ENSG0"], "other": GENES}),
        ({"relationships": pd.DataFrame({"gene_a": GENES, "gene_b": GENES})}, errors.NothingShared, {}),
        ({"relationships": pd.DataFrame({"gene_a": [], "gene_b": []})}, errors.NothingShared, {"one": []}),
    ],
)
def test_refuses(refuses, measure, change, error, data):
    with refuses(error, **data):
        measure(**arguments(**change))
