import re

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip import _checks
from semiclip.datasets._assemble import modalities

VALUES = np.arange(12, dtype=np.float64).reshape(6, 2) / 7


def make(values=VALUES, **obs):
    """Six observations with ``obsm["X_rep"]``."""
    frame = pd.DataFrame(obs, index=[f"cell{i}" for i in range(6)])
    return anndata.AnnData(obs=frame, obsm={"X_rep": values})


def message(text):
    return re.escape(text)


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (range(5), "0, 1, 2, 3, 4"),
        (range(7), "0, 1, 2, 3, 4, … (7 in all)"),
        ((x for x in "abcdef"), "a, b, c, d, e, … (6 in all)"),
    ],
)
def test_some(items, text):
    assert _checks.some(items) == text
    assert _checks.some("abc", 2) == "a, b, … (3 in all)"


class TestModality:
    def test_returns_the_object_itself(self):
        rna = make()
        assert _checks.modality(modalities(rna=rna), "rna") is rna

    def test_missing(self):
        text = "the MuData has no modality 'protein', only rna, image; name yours with modalities={...}"
        with pytest.raises(KeyError, match=message(text)):
            _checks.modality(modalities(rna=make(), image=make()), "protein")

    def test_empty(self):
        empty = anndata.AnnData(obs=pd.DataFrame(index=pd.Index([], dtype=str)))
        with pytest.raises(ValueError, match="modality 'rna' has no observations"):
            _checks.modality(modalities(rna=empty), "rna")

    @pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
    def test_repeated_names(self):
        adata = make()
        adata.obs_names = ["a", "b", "a", "c", "b", "d"]
        text = "the AnnData repeats observation names: a, b; call .obs_names_make_unique() first"
        with pytest.raises(ValueError, match=message(text)):
            _checks.nonempty(adata)


class Kind:
    def __init__(self, n_hidden=1, *, ridge=0.5):
        """Take two arguments."""


def hands_on(adata, *, batch_size=1, max_epochs=2, **others):
    """Stands for what passes arguments on."""


class TestArguments:
    """What is not known is said, and what may be meant."""

    HOMES = {"the model: Model({}=…)": ["n_hidden", "ridge"], "the plan: plan={{{!r}: …}}": ["lr", "ridge"]}

    def refuses(self, given, text, kind=Kind, **how):
        with pytest.raises(TypeError, match=f"^{message(text)}$"):
            _checks.arguments(kind, given, "here", **how)

    def test_of_a_class(self):
        assert _checks.arguments(Kind, {"n_hidden": 2, "ridge": 1}, "here") is None
        text = "here: got an unexpected keyword argument 'n_hiden'; did you mean 'n_hidden'?"
        self.refuses({"ridge": 1, "n_hiden": 2}, text)
        self.refuses({"x": 2}, "here: got an unexpected keyword argument 'x'; Kind takes n_hidden, ridge")
        self.refuses(
            {}, "here: missing a required argument: 'adata'; hands_on takes adata, batch_size, max_epochs", hands_on
        )

    def test_of_what_passes_arguments_on(self):
        given = {"adata": 1, "deterministic": True, "batch_key": "b"}
        how = {"also": ["batch_key"], "passed_on": ["deterministic", "min_epochs"], "homes": self.HOMES}
        assert _checks.arguments(hands_on, given, "here", **how) is None
        for name, hint in {
            "n_hidden": "it is an argument of the model: Model(n_hidden=…)",
            "lr": "it is an argument of the plan: plan={'lr': …}",
            "ridge": "it is an argument of the model: Model(ridge=…)",  # the first home
            "learning_rate": "did you mean 'lr' of the plan: plan={'lr': …}?",
            "bach_size": "did you mean 'batch_size'?",
            "batchkey": "did you mean 'batch_key'?",
            "n_epochs": "did you mean 'max_epochs'?",  # and not what is passed on, though min_epochs is nearer
            "epochs": "did you mean 'max_epochs'?",
            "determinstic": "did you mean 'deterministic'?",
            "xyz": "hands_on takes adata, batch_size, max_epochs, batch_key",
        }.items():
            text = f"here: got an unexpected keyword argument {name!r}; {hint}"
            self.refuses({**given, name: 1}, text, hands_on, **how)


class TestWritable:
    def test_accepts(self):
        adata = make()
        assert _checks.writable(adata, "X_new") is None
        assert _checks.writable(adata[:3], "X_new", copy=True) is None

    @pytest.mark.parametrize("copy", [False, True])
    def test_a_key_with_a_slash(self, copy):
        text = "key_added='X/new' contains '/', which h5ad and zarr read as a folder; choose another name"
        with pytest.raises(ValueError, match=message(text)):
            _checks.writable(make(), "X/new", copy=copy)

    def test_a_view(self):
        with pytest.raises(ValueError, match=r"cannot write into a view.*call \.copy\(\) on the subset first"):
            _checks.writable(make()[:3], "X_new")


class TestColumn:
    def test_returns_the_column(self):
        adata = make(plate=list("aabbcc"))
        pd.testing.assert_series_equal(_checks.column(adata, "plate", "batch_key"), adata.obs["plate"])

    def test_missing(self):
        text = "batch_key='plate' is not a column of obs, which has drug, dose"
        with pytest.raises(KeyError, match=message(text)):
            _checks.column(make(drug=list("abcdef"), dose=0.0), "plate", "batch_key")

    @pytest.mark.parametrize("kind", ["object", "float", "category", "string", "Int64"])
    def test_missing_values(self, kind):
        values = [1, None, 1, 2, None, 2] if kind in ("float", "Int64") else ["1", None, "1", "2", None, "2"]
        adata = make(plate=pd.Series(values, dtype=kind).array)
        text = "obs['plate'] (batch_key) has no value in 2 row(s): cell1, cell4; fill or drop them"
        with pytest.raises(ValueError, match=message(text)):
            _checks.column(adata, "plate", "batch_key")

    def test_some_rows_alone(self):
        adata = make(plate=["1", None, "1", "2", None, "2"])
        rows = np.array([True, False, True, True, False, False])
        assert _checks.column(adata, "plate", "batch_key", rows).tolist() == ["1", "1", "2"]
        text = "obs['plate'] (batch_key) has no value in 1 row(s): cell4; fill or drop them"
        with pytest.raises(ValueError, match=message(text)):
            _checks.column(adata, "plate", "batch_key", np.arange(6) > 1)

    def test_names_five_and_counts_the_rest(self):
        text = "in 6 row(s): cell0, cell1, cell2, cell3, cell4, … (6 in all); fill or drop them"
        with pytest.raises(ValueError, match=message(text)):
            _checks.column(make(plate=np.nan), "plate", "batch_key")


class TestBatches:
    @pytest.mark.parametrize("kind", ["object", "category", "string"])
    def test_codes_in_the_order_of_names(self, kind):
        codes, names = _checks.batches(make(plate=pd.Series(list("bacabc"), dtype=kind).array), "plate")
        assert codes.tolist() == [1, 0, 2, 0, 1, 2]
        assert names.tolist() == ["a", "b", "c"]

    def test_unused_categories_are_no_batches(self):
        adata = make(plate=pd.Categorical(list("aabbcc"), categories=list("dcba")))
        codes, names = _checks.batches(adata[2:], "plate")
        assert codes.tolist() == [0, 0, 1, 1]
        assert names.tolist() == ["b", "c"]

    def test_numbers(self):
        codes, names = _checks.batches(make(plate=[10, 2, 2, 10, 3, 3]), "plate")
        assert codes.tolist() == [2, 0, 0, 2, 1, 1]
        assert names.tolist() == [2, 3, 10]

    def test_without_a_key_all_rows_are_one_batch(self):
        codes, names = _checks.batches(make(), None)
        assert codes.tolist() == [0] * 6
        assert names.tolist() == ["all rows"]


class TestControls:
    @pytest.mark.parametrize("kind", ["object", "category", "string"])
    def test_one_label_or_several(self, kind):
        adata = make(gene=pd.Series(["A", "dmso", "B", "mock", "dmso", "A"], dtype=kind).array)
        assert _checks.controls(adata, "gene", "dmso").tolist() == [False, True, False, False, True, False]
        assert _checks.controls(adata, "gene", ["dmso", "mock"]).tolist() == [False, True, False, True, True, False]
        assert _checks.controls(adata, "gene", ("dmso",)).dtype == bool

    @pytest.mark.parametrize(("values", "label"), [([0, 1, 2, 0, 1, 2], 0), ([True, False, False] * 2, True)])
    def test_labels_need_not_be_text(self, values, label):
        adata = make(treatment=values)
        expected = [value == label for value in values]
        assert _checks.controls(adata, "treatment", label).tolist() == expected
        assert _checks.controls(adata, "treatment", [label]).tolist() == expected

    @pytest.mark.parametrize("perturbation_key", [None, "gene"])
    def test_none_says_that_there_are_no_controls(self, perturbation_key):
        assert _checks.controls(make(gene=list("aabbcc")), perturbation_key, None).tolist() == [False] * 6

    def test_a_label_that_matches_nothing(self):
        adata = make(gene=["A", "B", "B", "C", "C", "C"])
        text = (
            "control label(s) DMSO match no row of obs['gene']; its most frequent labels are C, B, A. "
            "Pass the right label(s) as control=, or control=None for data without controls"
        )
        for control in ("DMSO", ["A", "DMSO"]):
            with pytest.raises(ValueError, match=message(text)):
                _checks.controls(adata, "gene", control)

    def test_one_of_several_modalities_needs_a_label_of_its_own(self):
        rna, image = make(gene=["A", "dmso", "B", "A", "A", "B"]), make(gene=["mock", "A", "A", "mock", "mock", "B"])
        both = ["mock", "dmso"]
        assert (_checks.own_labels(rna, "gene", both), _checks.own_labels(image, "gene", both)) == (["dmso"], ["mock"])
        assert _checks.own_labels(rna, "gene", None) is None
        assert _checks.known_labels([rna, image], "gene", both) is None
        assert _checks.known_labels([rna, image], "gene", None) is None
        text = "control label(s) mock, x match no row of obs['gene']; its most frequent labels are A, B, dmso. Pass the"
        with pytest.raises(ValueError, match=message(text)):
            _checks.own_labels(rna, "gene", ["mock", "x"])
        text = "x match no row of obs['gene'] of any modality; its most frequent labels are A, B, dmso; mock, A, B."
        with pytest.raises(ValueError, match=message(text)):
            _checks.known_labels([rna, image], "gene", [*both, "x"])

    def test_no_label(self):
        text = "control names no label; pass the label(s), or control=None for data without controls"
        with pytest.raises(ValueError, match=message(text)):
            _checks.controls(make(gene=list("aabbcc")), "gene", [])

    def test_a_label_needs_its_column(self):
        text = "control='DMSO' needs perturbation_key=, the obs column that holds this label"
        with pytest.raises(ValueError, match=message(text)):
            _checks.controls(make(), None, "DMSO")
        with pytest.raises(KeyError, match=message("perturbation_key='gene' is not a column of obs")):
            _checks.controls(make(), "gene", "DMSO")


class TestRepresentation:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_keeps_the_width_of_floats_and_copies_nothing(self, dtype):
        adata = make(VALUES.astype(dtype))
        out = _checks.representation(adata, "X_rep")
        assert out.dtype == dtype
        assert np.shares_memory(out, adata.obsm["X_rep"])

    @pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, bool, object])
    def test_other_numbers_become_float32(self, dtype):
        values = np.arange(12).reshape(6, 2).astype(dtype)
        out = _checks.representation(make(values), "X_rep")
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out, values.astype(np.float32))

    @pytest.mark.parametrize(
        "convert",
        [
            lambda x: pd.DataFrame(x, index=[f"cell{i}" for i in range(6)], columns=["a", "b"]),
            sparse.csr_matrix,
            sparse.csc_matrix,
            sparse.csr_array,
            np.asfortranarray,
            lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        ],
    )
    def test_takes_frames_sparse_and_scattered_arrays(self, convert):
        adata = make(convert(VALUES))
        out = _checks.representation(adata, "X_rep")
        assert type(out) is np.ndarray
        np.testing.assert_array_equal(out, VALUES)
        np.testing.assert_array_equal(_checks.representation(adata[[4, 1]], "X_rep"), VALUES[[4, 1]])

    def test_takes_x(self):
        adata = anndata.AnnData(sparse.csr_matrix(VALUES), obs=make().obs)
        np.testing.assert_array_equal(_checks.representation(adata, "X"), VALUES)

    def test_a_key_named_x_in_obsm_is_not_meant(self):
        with pytest.raises(ValueError, match=message("X has shape (); an embedding of shape (n_obs, n_dimensions)")):
            _checks.representation(make(), "X")

    def test_missing(self):
        text = "student_rep='X_scvi' is not in obsm, which has X_rep; make it with scl.pp.encode"
        with pytest.raises(KeyError, match=message(text)):
            _checks.representation(make(), "X_scvi", "student_rep")
        bare = anndata.AnnData(VALUES)
        with pytest.raises(KeyError, match="use_rep='X_rep' is not in obsm, which has nothing"):
            _checks.representation(bare, "X_rep")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, np.float32, np.float16])
    def test_values_that_are_not_finite(self, bad, convert):
        values = VALUES.copy()
        values[[1, 4], [0, 1]] = bad
        text = "obsm['X_rep'] holds NaN or infinite values in 2 row(s): cell1, cell4; drop or mend these rows first"
        with pytest.raises(ValueError, match=message(text)):
            _checks.representation(make(convert(values)), "X_rep")

    def test_infinities_that_cancel_and_more_than_five_rows(self):
        values = VALUES.copy()
        values[:] = [np.inf, -np.inf]
        text = "in 6 row(s): cell0, cell1, cell2, cell3, cell4, … (6 in all); drop or mend"
        with pytest.raises(ValueError, match=message(text)):
            _checks.representation(make(values), "X_rep")
        with pytest.raises(ValueError, match=message("X holds NaN or infinite values in 6 row(s)")):
            _checks.representation(anndata.AnnData(values, obs=make().obs), "X")

    def test_finite_values_whose_sum_is_not(self):
        values = np.full((6, 2), 1e308)
        np.testing.assert_array_equal(_checks.representation(make(values), "X_rep"), values)

    def test_text(self):
        with pytest.raises(TypeError, match=message("obsm['X_rep'] holds <U1 values, not numbers")):
            _checks.representation(make(np.array([["a", "b"]] * 6)), "X_rep")
        frame = pd.DataFrame({"a": pd.array([1, None, 3, 4, 5, 6], dtype="Int64")}, index=make().obs_names)
        with pytest.raises((TypeError, ValueError), match=r"obsm\['X_rep'\] holds (object values|NaN)"):
            _checks.representation(make(frame), "X_rep")

    @pytest.mark.parametrize("shape", [(6, 0), (6, 2, 2)])
    def test_wrong_shape(self, shape):
        text = f"obsm['X_rep'] has shape {shape}; an embedding of shape (n_obs, n_dimensions) is needed"
        with pytest.raises(ValueError, match=message(text)):
            _checks.representation(make(np.ones(shape)), "X_rep")

    def test_lazy_dask(self):
        array = pytest.importorskip("dask.array")
        adata = make(array.from_array(VALUES))
        text = "obsm['X_rep'] is a lazy dask array; load it with adata.obsm['X_rep'] = adata.obsm['X_rep'].compute()"
        with pytest.raises(TypeError, match=message(text)):
            _checks.representation(adata, "X_rep")
        adata.obsm["X_rep"] = adata.obsm["X_rep"].compute()
        np.testing.assert_array_equal(_checks.representation(adata, "X_rep"), VALUES)

    @pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
    def test_backed(self, convert, tmp_path):
        adata = make()
        stored = anndata.AnnData(convert(VALUES), obs=adata.obs, obsm=dict(adata.obsm))
        stored.write_h5ad(tmp_path / "stored.h5ad")
        backed = anndata.read_h5ad(tmp_path / "stored.h5ad", backed="r")
        np.testing.assert_array_equal(_checks.representation(backed, "X_rep"), VALUES)
        text = "X is backed by a file; load it with adata = adata.to_memory()"
        with pytest.raises(TypeError, match=message(text)):
            _checks.representation(backed, "X")
        np.testing.assert_array_equal(_checks.representation(backed.to_memory(), "X"), VALUES)
        backed.file.close()
