"""Numbers as text, as objects or in types of pandas' own and of Arrow are read as numbers all the same."""

import importlib.util
import logging
from collections import deque

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"perturbation_key": "drug", "control": "DMSO"}
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
BACKENDS = ["numpy_nullable", pytest.param("pyarrow", marks=needs_pyarrow)]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.normal(10, 3, (8, 3)), columns=["Cells_Area", "Cytoplasm_Area", "Nuclei_Area"])
    drug = ["DMSO"] * 5 + ["taxol", "aspirin", "taxol"]
    described = {"Metadata_Plate": "p1", "Metadata_Well": [f"A{i}" for i in range(1, 9)], "Metadata_drug": drug}
    described |= {
        "Metadata_dose": [0.0] * 5 + [1.5, 2.5, 1.5],
        "Metadata_n": range(8),
        "Metadata_edge": [True, False] * 4,
    }
    return pd.DataFrame(described).join(values)


@pytest.mark.parametrize("gap", ["nan", "NA", "N/A", "None", " NaN ", ""])
def test_a_gap_written_as_text_is_a_gap_in_files_and_in_tables(table, tmp_path, gap):
    mixed = table.astype({"Cells_Area": object})
    mixed.loc[6, "Cells_Area"] = gap
    plain = table.copy()
    plain.loc[6, "Cells_Area"] = np.nan
    mixed.to_csv(tmp_path / "p.csv", index=False)
    expected = scl.io.profiles(plain, max_missing=0.2, **KEYS)
    assert expected.var_names.tolist() == ["Cells_Area", "Cytoplasm_Area", "Nuclei_Area"]
    for read in (mixed, tmp_path / "p.csv"):
        images = scl.io.profiles(read, max_missing=0.2, **KEYS)
        assert images.var_names.tolist() == expected.var_names.tolist()
        np.testing.assert_allclose(images.X, expected.X, rtol=1e-6)
        assert images.X[6, 0] == 0.0


def test_a_feature_with_a_word_goes_from_files_and_from_tables(table, tmp_path, caplog):
    mixed = table.astype({"Cells_Area": object})
    mixed.loc[6, "Cells_Area"] = "failed"
    mixed.to_csv(tmp_path / "p.csv", index=False)
    for read in (mixed, tmp_path / "p.csv"):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="semiclip"):
            images = scl.io.profiles(read, **KEYS)
        assert images.var_names.tolist() == ["Cytoplasm_Area", "Nuclei_Area"]
        assert "1 feature(s) hold text, and go: Cells_Area" in caplog.messages


@pytest.mark.parametrize("kind", [object, str, "category"])
def test_features_that_are_objects_text_or_categories_are_numbers(table, kind):
    features = ["Cells_Area", "Cytoplasm_Area", "Nuclei_Area"]
    changed = table.astype(dict.fromkeys(features, kind))
    np.testing.assert_allclose(scl.io.profiles(changed, **KEYS).X, scl.io.profiles(table, **KEYS).X, rtol=1e-6)


def test_a_table_of_objects_is_read_as_its_own_types(table):
    images, expected = (scl.io.profiles(read, **KEYS) for read in (table.astype(object), table))
    np.testing.assert_array_equal(images.X, expected.X)
    pd.testing.assert_frame_equal(images.obs, expected.obs)


def test_a_table_without_numbers_says_so_and_not_that_the_controls_are_missing(refuses, table):
    features = ["Cells_Area", "Cytoplasm_Area", "Nuclei_Area"]
    with refuses(errors.Empty, what=f"numbers in the features {', '.join(features)}"):
        scl.io.profiles(table.assign(**dict.fromkeys(features, "high")), **KEYS)
    with refuses(errors.Empty, what="rows in which a feature has a value"):
        scl.io.profiles(table.assign(**dict.fromkeys(features, np.nan)), **KEYS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nullable_and_arrow_columns_go_through_h5ad(table, tmp_path, backend):
    expected = scl.io.profiles(table, **KEYS)
    images = scl.io.profiles(table.convert_dtypes(dtype_backend=backend), **KEYS)
    images.write_h5ad(tmp_path / "a.h5ad")
    stored = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(stored.obsm["X_image"], expected.X)
    pd.testing.assert_frame_equal(images.obs.astype({"dose": float}), expected.obs)
    assert stored.obs["dose"].tolist() == [0.0] * 5 + [1.5, 2.5, 1.5]
    assert stored.obs["edge"].tolist() == [True, False] * 4
    assert stored.obs["drug"].tolist() == expected.obs["drug"].tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_gaps_of_nullable_and_arrow_columns_are_gaps(table, tmp_path, backend):
    columns = ["Metadata_dose", "Metadata_n", "Metadata_edge", "Cells_Area"]
    nullable = table.convert_dtypes(dtype_backend=backend).assign(Metadata_big=pd.array([2**60 + 1] * 8, "Int64"))
    nullable.loc[6, [*columns, "Metadata_big"]] = pd.NA
    images = scl.io.profiles(nullable, max_missing=0.2, **KEYS)
    images.write_h5ad(tmp_path / "a.h5ad")
    obs = anndata.read_h5ad(tmp_path / "a.h5ad").obs
    assert obs[["dose", "n", "edge", "big"]].isna().sum(axis=1).tolist() == [0] * 6 + [4, 0]
    assert obs["n"].tolist()[:6] == [0, 1, 2, 3, 4, 5]
    assert obs["edge"].tolist()[:2] == ["True", "False"]  # as in a CSV file
    assert obs["big"].tolist()[0] == str(2**60 + 1)  # no float holds it
    plain = table.copy()
    plain.loc[6, "Cells_Area"] = np.nan
    np.testing.assert_array_equal(images.X, scl.io.profiles(plain, max_missing=0.2, **KEYS).X)


@pytest.mark.parametrize("backend", BACKENDS)
def test_plate_maps_of_these_types_go_through_h5ad_too(table, tmp_path, backend):
    layout = table.filter(like="Metadata_").convert_dtypes(dtype_backend=backend)
    layout.loc[7, "Metadata_n"] = pd.NA
    adata = anndata.AnnData(obs=pd.DataFrame({"Plate": "p1", "Well": ["A08", "A06"]}, index=["x", "y"]))
    scl.io.plate_map(adata, layout)
    adata.write_h5ad(tmp_path / "a.h5ad")
    obs = anndata.read_h5ad(tmp_path / "a.h5ad").obs
    assert obs["drug"].tolist() == ["taxol", "taxol"]
    np.testing.assert_array_equal(obs["n"], [np.nan, 5.0])
    assert obs["edge"].tolist() == [False, False]


def test_lists_and_tables_in_a_description_become_text(table, tmp_path):
    table["Metadata_tags"] = [["a", "b"]] * 5 + [None, ["c"], {"d": 1}]
    table["Metadata_shape"] = [np.array([1, 2])] * 8
    images = scl.io.profiles(table, **KEYS)
    images.write_h5ad(tmp_path / "images.h5ad")
    obs = anndata.read_h5ad(tmp_path / "images.h5ad").obs
    assert obs["tags"].astype(object).tolist()[:5] == ["['a', 'b']"] * 5
    assert obs["tags"].isna().tolist() == [False] * 5 + [True, False, False]
    assert obs["tags"].astype(object).tolist()[6:] == ["['c']", "{'d': 1}"]
    assert obs["shape"].tolist() == ["[1, 2]"] * 8


LONG = np.arange(2000)
LONG_TOO = np.where(LONG == 1000, -1, LONG)


@pytest.mark.parametrize(
    ("first", "second", "label"),
    [
        (["a", "b"], np.array(["a", "b"]), "['a', 'b']"),
        (["a", "b"], pd.Series(["a", "b"]), "['a', 'b']"),
        ([1, None], deque([1, None]), "[1, None]"),
        ({8, 0, 16}, {0, 16, 8}, "{0, 16, 8}"),
        ({"b", "a"}, frozenset("ab"), "{'a', 'b'}"),
        ({"x": 1, "y": {"b", "a"}}, {"y": {"a", "b"}, "x": 1}, "{'x': 1, 'y': {'a', 'b'}}"),
        (("a",), ("a",), "('a',)"),
        (LONG, LONG.tolist(), str(LONG.tolist())),
    ],
)
def test_equal_collections_are_one_label(table, first, second, label):
    column = pd.Series([first] * 4 + [second] * 4, dtype=object)
    images = scl.io.profiles(table.assign(Metadata_x=column), **KEYS)
    assert images.obs["x"].tolist() == [label] * 8


@pytest.mark.parametrize(("first", "second"), [(LONG, LONG_TOO), ([1.0], np.array([1.0 + 1e-12])), ({1}, {2})])
def test_other_collections_are_two_labels(table, first, second):
    column = pd.Series([first] * 4 + [second] * 4, dtype=object)
    images = scl.io.profiles(table.assign(Metadata_x=column), **KEYS)
    assert pd.factorize(images.obs["x"])[0].tolist() == [0] * 4 + [1] * 4


def test_collections_may_name_perturbations(table):
    column = [[label] for label in table["Metadata_drug"]]
    images = scl.io.profiles(table.assign(Metadata_drug=column), perturbation_key="drug", control="['DMSO']")
    assert images.obs["drug"].tolist() == [f"['{label}']" for label in table["Metadata_drug"]]


@pytest.mark.parametrize("key", [0, False, [], ()])
def test_a_well_key_that_is_no_text_is_refused(refuses, table, key):
    with refuses(errors.WrongType, name="well_key"):
        scl.io.profiles(table, **KEYS, well_key=key)
