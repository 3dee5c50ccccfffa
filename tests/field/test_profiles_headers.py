"""Tables with two header rows, as CellProfiler writes for several objects, and tables with nothing below the header."""

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"perturbation_key": "drug", "control": "DMSO"}
HEADER = [
    ("Image", "ImageNumber"),
    ("Image", "Metadata_Plate"),
    ("Image", "Metadata_Well"),
    ("Image", "Metadata_drug"),
    ("Nuclei", "ObjectNumber"),
    ("Nuclei", "AreaShape_Area"),
    ("Nuclei", "Location_Center_X"),
    ("Cells", "AreaShape_Area"),
]


@pytest.fixture
def cells():
    """Three cells in each of eight wells, by the names of two header rows."""
    rng = np.random.default_rng(0)
    wells = np.repeat([f"A{i}" for i in range(1, 9)], 3)
    drug = np.repeat(["DMSO"] * 6 + ["taxol"] * 2, 3)
    columns = [np.repeat(range(8), 3), ["007"] * 24, wells, drug, [1, 2, 3] * 8, *rng.normal(10, 3, (3, 24))]
    return pd.DataFrame(dict(zip(HEADER, columns, strict=True)), columns=pd.MultiIndex.from_tuples(HEADER))


@pytest.fixture
def expected(cells):
    one = cells.set_axis(["_".join(name).replace("Image_Metadata", "Metadata") for name in HEADER], axis=1)
    return scl.io.profiles(one, **KEYS)


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz", "p.tsv"])
def test_two_header_rows_of_a_file_are_joined(cells, expected, tmp_path, name):
    cells.to_csv(tmp_path / name, index=False, sep="\t" if "tsv" in name else ",")
    images = scl.io.profiles(tmp_path / name, **KEYS)
    assert images.var_names.tolist() == ["Nuclei_AreaShape_Area", "Cells_AreaShape_Area"]
    np.testing.assert_allclose(images.X, expected.X, rtol=1e-6)
    assert images.obs["Plate"].unique().tolist() == ["007"]
    assert images.obs["n_rows"].tolist() == [3] * 8
    assert images.obs_names.tolist() == [f"007:A0{i}" for i in range(1, 9)]


def test_two_header_rows_of_a_table_are_joined(cells, expected):
    images = scl.io.profiles(cells, **KEYS)
    np.testing.assert_array_equal(images.X, expected.X)
    pd.testing.assert_frame_equal(images.obs, expected.obs)


def test_one_header_row_with_metadata_of_images_is_read(cells, expected):
    images = scl.io.profiles(cells.set_axis(["_".join(name) for name in HEADER], axis=1), **KEYS)
    np.testing.assert_array_equal(images.X, expected.X)


def test_names_that_repeat_in_a_single_header_are_still_refused(refuses, tmp_path):
    (tmp_path / "p.csv").write_text("Metadata_Plate,Metadata_Well,Cells_A,Cells_A\np1,A1,1,2\np1,A2,2,3\n")
    with refuses(errors.Repeated, items=["Cells_A"]):
        scl.io.profiles(tmp_path / "p.csv", **KEYS)


def test_a_header_alone_is_refused(refuses, cells, tmp_path):
    one = cells.set_axis(["_".join(name).removeprefix("Image_") for name in HEADER], axis=1).iloc[:0]
    one.to_csv(tmp_path / "p.csv", index=False)
    cells.iloc[:0].to_csv(tmp_path / "two.csv", index=False)
    for read in (one, cells.iloc[:0]):
        with refuses(errors.Empty, what="rows in the table"):
            scl.io.profiles(read, **KEYS)
    for name in ("p.csv", "two.csv"):
        with refuses(errors.Empty, what=f"rows in {tmp_path / name}", way_out="the file ends after its header"):
            scl.io.profiles([tmp_path / name], **KEYS)


@pytest.mark.parametrize("content", ["", "\n", "\n\n"])
def test_an_empty_file_is_refused(refuses, tmp_path, content):
    (tmp_path / "p.csv").write_text(content)
    with refuses(errors.Empty, what=f"rows in {tmp_path / 'p.csv'}", way_out="the file is empty"):
        scl.io.profiles(tmp_path / "p.csv", **KEYS)
