"""What public functions accept of an AnnData, and how they refuse the rest: the same at every door."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl
from semiclip import errors
from semiclip._mudata import make_mudata as modalities

GENES = [f"G{i:02}" for i in range(20)]
LABELS = [*GENES, *GENES, *["dmso"] * 8]
VALUES = np.random.default_rng(0).normal(size=(48, 3))
COLUMNS = {"perturbation_key": "gene", "control": "dmso", "batch_key": "plate"}
KNOWN = pd.DataFrame({"gene_a": GENES[::2], "gene_b": GENES[1::2]})


def make(values=VALUES, **obs):
    """Forty treated rows and eight controls on two plates."""
    frame = pd.DataFrame({"gene": LABELS, "plate": ["a", "b"] * 24, **obs}, index=[f"cell{i}" for i in range(48)])
    return anndata.AnnData(obs=frame, obsm={"X_rep": values})


def correct(adata, **arguments):
    arguments = {"use_rep": "X_rep", **COLUMNS, "method": "center", **arguments}
    return scl.pp.pea_correct(adata, **arguments, key_added="X_new", copy=True).obsm["X_new"]


def ask(function, **defaults):
    """Ask a measure of known relationships or of chance, by the arguments that change."""

    def door(adata, **arguments):
        return function(adata, **{"use_rep": "X_rep", **COLUMNS, "method": "center", **defaults, **arguments})

    return door


DOORS = {
    "pea_correct": correct,
    "recall": ask(scl.tl.recall, relationships=KNOWN),
    "similarity": ask(scl.tl.similarity, relationships=KNOWN),
    "consistency": ask(scl.tl.consistency, n_permutations=10),
    "aggregate": ask(scl.tl.aggregate),
    "nearest": ask(scl.tl.nearest, relationships=KNOWN, n_permutations=0),
}


def with_rows(bad, *places):
    values = VALUES.copy()
    for place in places:
        values[place] = bad
    return values


def repeated_names():
    adata = make()
    adata.obs_names = ["cell0", "cell0", "cell2", "cell2", *adata.obs_names[4:]]
    return adata


REFUSED = [
    (lambda: modalities(rna=make()), {}, errors.WrongType, {"needed": "an AnnData"}),
    (lambda: make()[:0].copy(), {}, errors.Empty, {}),
    (repeated_names, {}, errors.Repeated, {"items": ["cell0", "cell2"]}),
    (make, {"use_rep": "X_other"}, errors.MissingEntry, {"key": "X_other", "there": ["X_rep"]}),
    (make, {"batch_key": "well"}, errors.MissingColumn, {"key": "well", "name": "batch_key"}),
    (make, {"perturbation_key": "drug"}, errors.MissingColumn, {"key": "drug", "name": "perturbation_key"}),
    (lambda: make(plate=[None, *"a" * 46, None]), {}, errors.MissingValues, {"rows": ["cell0", "cell47"]}),
    (make, {"control": "DMSO"}, errors.UnknownControl, {"labels": ["DMSO"], "perturbation_key": "gene"}),
    (make, {"control": ["dmso", "mock"]}, errors.UnknownControl, {"labels": ["mock"]}),
    (make, {"control": []}, errors.UnknownControl, {"labels": ()}),
    (make, {"perturbation_key": None}, errors.UnknownControl, {"perturbation_key": None}),
    (lambda: make(plate=["a"] * 47 + ["b"]), {}, errors.TooFewControls, {"batches": {"b": 1}, "needed": 2, "total": 8}),
    (lambda: make(with_rows(np.nan, (1, 0), (4, 2))), {}, errors.NotFinite, {"rows": ["cell1", "cell4"]}),
    (lambda: make(with_rows([np.inf, -np.inf, 0], 5)), {}, errors.NotFinite, {"rows": ["cell5"]}),
    (lambda: make(sparse.csr_matrix(with_rows(np.inf, (0, 0)))), {}, errors.NotFinite, {"rows": ["cell0"]}),
    (lambda: make(np.full((48, 2), "a")), {}, errors.WrongDtype, {"where": "obsm['X_rep']"}),
    (lambda: make(VALUES + 1j), {}, errors.WrongDtype, {"where": "obsm['X_rep']"}),
    (lambda: make(np.ones((48, 0))), {}, errors.WrongShape, {"shape": (48, 0)}),
    (lambda: make(np.ones((48, 2, 2))), {}, errors.WrongShape, {"shape": (48, 2, 2)}),
    (make, {"method": "tvm"}, errors.UnknownChoice, {"name": "method", "value": "tvm"}),
    (make, {"profile": "dirty"}, errors.UnknownChoice, {"name": "profile"}),
    (make, {"fallback": "all"}, errors.UnknownChoice, {"name": "fallback"}),
    (make, {"ridge": -1.0}, errors.BadValue, {"name": "ridge", "value": -1.0}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("data", "arguments", "error", "expected"), REFUSED)
def test_bad_input_is_refused_with_its_rows_and_names(door, data, arguments, error, expected, refuses):
    adata = data()
    with refuses(error, **expected):
        DOORS[door](adata, **arguments)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, bool, object, np.float64])
def test_numbers_of_other_types_are_taken(dtype):
    values = (np.arange(144).reshape(48, 3) * 7 % 5 > 1).astype(dtype)
    np.testing.assert_array_equal(correct(make(values)), correct(make(values.astype(np.float32))))


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: pd.DataFrame(x, index=make().obs_names, columns=["a", "b", "c"]),
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.csr_array,
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    ],
)
def test_frames_sparse_and_scattered_arrays_give_the_same(convert):
    np.testing.assert_array_equal(correct(make(convert(VALUES))), correct(make()))
    part = np.r_[40:48, 0:10]
    np.testing.assert_array_equal(correct(make(convert(VALUES))[part]), correct(make()[part]))


def test_finite_values_whose_sum_is_not():
    assert correct(make(np.full((48, 2), 1e308))).max() == 0


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_labels_of_any_type_and_unused_categories(kind):
    obs = {"gene": pd.Series(LABELS, dtype=kind).array, "plate": pd.Series(["a", "b"] * 24, dtype=kind).array}
    np.testing.assert_array_equal(correct(make(**obs)), correct(make()))
    np.testing.assert_array_equal(correct(make(**obs)[::2]), correct(make()[::2]))  # of one plate
    adata = make(gene=[label == "dmso" for label in LABELS], plate=[10, 2] * 24)  # which need not be text
    np.testing.assert_array_equal(correct(adata, control=True), correct(make()))


def test_without_controls_every_row_of_a_batch_is_the_reference():
    plate = np.array(["a", "b"] * 24)
    expected = VALUES.copy()
    for name in "ab":
        expected[plate == name] -= VALUES[plate == name].mean(axis=0)
    np.testing.assert_allclose(correct(make(), control=None, perturbation_key=None), expected, atol=1e-6)
    np.testing.assert_allclose(correct(make(), control=None, batch_key=None), VALUES - VALUES.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
def test_x_in_memory_and_in_a_file(convert, tmp_path, refuses):
    adata = make()
    stored = anndata.AnnData(convert(VALUES), obs=adata.obs, obsm=dict(adata.obsm))
    stored.write_h5ad(tmp_path / "stored.h5ad")
    np.testing.assert_array_equal(correct(stored, use_rep="X"), correct(adata))
    backed = anndata.read_h5ad(tmp_path / "stored.h5ad", backed="r")
    with refuses(errors.NotInMemory, where="X"):
        scl.tl.recall(backed, use_rep="X", **COLUMNS, relationships=KNOWN)
    table = scl.tl.recall(backed, use_rep="X_rep", **COLUMNS, relationships=KNOWN, rng=0)
    pd.testing.assert_frame_equal(table, DOORS["recall"](make(), method="tvn", rng=0))
    backed.file.close()


def test_lazy_dask(refuses):
    array = pytest.importorskip("dask.array")
    adata = make(array.from_array(VALUES))
    with refuses(errors.NotInMemory, where="obsm['X_rep']"):
        correct(adata)
    adata.obsm["X_rep"] = adata.obsm["X_rep"].compute()
    np.testing.assert_array_equal(correct(adata), correct(make()))
