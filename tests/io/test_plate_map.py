import gzip
import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import semiclip as scl
from semiclip import errors


def samples(plates, wells):
    index = [f"s{i}" for i in range(len(wells))]
    return anndata.AnnData(obs=pd.DataFrame({"Plate": plates, "Well": wells}, index=index))


@pytest.fixture
def layout():
    return pd.DataFrame(
        {
            "Plate": ["p1", "p1", "p2", "p2"],
            "Well": ["A1", "B12", "A1", "C3"],
            "drug": ["DMSO", "aspirin", "DMSO", None],
            "dose": [0.0, 1.5, 0.0, 3.0],
            "edge": [True, False, True, False],
        }
    )


def test_each_sample_gets_what_its_well_had(layout, caplog):
    adata = samples(["p2", "p1", "p1", "p1"], ["a01", "b12", "A001", "B12"])
    with caplog.at_level(logging.INFO, logger="semiclip"):
        assert scl.io.plate_map(adata, layout) is None
    assert adata.obs["drug"].tolist() == ["DMSO", "aspirin", "DMSO", "aspirin"]
    assert adata.obs["drug"].dtype == "category"
    assert adata.obs["dose"].tolist() == [0.0, 1.5, 0.0, 1.5]
    assert adata.obs["edge"].tolist() == [True, False, True, False]
    assert adata.obs["Well"].tolist() == ["a01", "b12", "A001", "B12"]  # left as it was
    assert adata.obs_names.tolist() == ["s0", "s1", "s2", "s3"]
    assert caplog.messages == ["1 of 4 wells of the plate map have no sample"]


def test_a_gap_in_the_map_stays_a_gap(layout):
    adata = samples(["p2"], ["C03"])
    scl.io.plate_map(adata, layout)
    assert adata.obs["drug"].isna().tolist() == [True]
    assert adata.obs["dose"].tolist() == [3.0]


def test_copy_leaves_the_original_alone(layout):
    adata = samples(["p1"], ["A1"])
    result = scl.io.plate_map(adata, layout, copy=True)
    assert adata.obs.columns.tolist() == ["Plate", "Well"]
    assert result.obs["drug"].tolist() == ["DMSO"]
    assert scl.io.plate_map(adata[:1], layout, copy=True).obs["drug"].tolist() == ["DMSO"]


def test_twice_is_as_once_and_the_log_names_what_is_replaced(layout, caplog):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    scl.io.plate_map(adata, layout)
    once = adata.obs.copy()
    with caplog.at_level(logging.INFO, logger="semiclip"):
        scl.io.plate_map(adata, layout)
    pd.testing.assert_frame_equal(adata.obs, once)
    assert "obs had drug, dose, edge already; the plate map replaces them" in caplog.messages


def test_other_names_of_the_columns_and_a_layout_for_all_plates(layout):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    other = layout.rename(columns={"Plate": "Metadata_Barcode", "Well": "well_position"})
    scl.io.plate_map(adata, other, on={"Plate": "Barcode", "Well": "well_position"})
    assert adata.obs["dose"].tolist() == [0.0, 3.0]
    assert "well_position" not in adata.obs
    scl.io.plate_map(adata, pd.DataFrame({"Well": ["A01", "C03"], "row": ["first", "third"]}), on="Well")
    assert adata.obs["row"].tolist() == ["first", "third"]


def test_finds_the_columns_of_images_by_their_prefix(layout):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    adata.obs.columns = ["Metadata_Plate", "Metadata_Well"]
    for plate_map in (layout, layout.add_prefix("Metadata_")):
        annotated = scl.io.plate_map(adata, plate_map, copy=True)
        assert annotated.obs["dose"].tolist() == [0.0, 3.0]
        assert annotated.obs.columns.tolist() == ["Metadata_Plate", "Metadata_Well", "drug", "dose", "edge"]
    named = layout.rename(columns={"Plate": "Barcode"})
    renamed = scl.io.plate_map(adata, named, on={"Plate": "Barcode", "Well": "Well"}, copy=True)
    assert renamed.obs["dose"].tolist() == [0.0, 3.0]
    adata.obs["Plate"] = "p1"  # the name itself comes first
    adata.obs["Well"] = "B12"
    scl.io.plate_map(adata, layout)
    assert adata.obs["dose"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("name", ["map.csv", "map.csv.gz", "map.tsv", "map.txt"])
def test_reads_files_as_they_were_meant(tmp_path, name):
    """Barcodes keep their zeros, labels that pandas takes for gaps stay labels, and numbers are numbers."""
    lines = [
        "Plate,Well,drug,dose,batch,note",
        "007,A1,None,0,1,",
        "007,A2,NA,1e-1,1,",
        "007,A3, aspirin ,,2,",
        "007,A4,02,2.5,2,",
    ]
    text = "\n".join(lines).replace(",", "," if ".csv" in name else "\t")
    opened = gzip.open if name.endswith("gz") else open
    with opened(tmp_path / name, "wt") as file:
        file.write(text)
    adata = samples(["007"] * 4, ["A01", "A02", "A03", "A04"])
    scl.io.plate_map(adata, tmp_path / name)
    assert adata.obs["drug"].tolist() == ["None", "NA", "aspirin", "02"]
    np.testing.assert_array_equal(adata.obs["dose"], [0.0, 0.1, np.nan, 2.5])
    assert adata.obs["batch"].tolist() == [1, 1, 2, 2]
    assert adata.obs["note"].isna().all()


def test_a_label_of_nothing_beside_numbers_is_a_label(tmp_path):
    (tmp_path / "map.csv").write_text("Plate,Well,drug,dose\n1,A1,None,NA\n1,A2,101,2.5\n")
    adata = samples(["1", "1"], ["A01", "A02"])
    scl.io.plate_map(adata, tmp_path / "map.csv")
    assert adata.obs["drug"].tolist() == ["None", "101"]
    np.testing.assert_array_equal(adata.obs["dose"], [np.nan, 2.5])


def test_an_index_that_pandas_wrote_is_no_column(layout, tmp_path):
    layout.to_csv(tmp_path / "map.csv")
    adata = samples(["p1"], ["A1"])
    scl.io.plate_map(adata, tmp_path / "map.csv")
    assert adata.obs.columns.tolist() == layout.columns.tolist()


@pytest.mark.parametrize("plates", [["2", "1"], [2, 1], [2.0, 1.0], pd.Categorical(["2", "1"])])
def test_plates_that_are_numbers_match_plates_that_are_text(plates):
    adata = samples(plates, ["A1", "A1"])
    scl.io.plate_map(adata, pd.DataFrame({"Plate": [1.0, 2.0], "Well": "A1", "drug": ["x", "y"]}))
    assert adata.obs["drug"].tolist() == ["y", "x"]


def test_the_result_goes_through_a_file(layout, tmp_path):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    scl.io.plate_map(adata, layout.assign(mixed=["a", 1, "b", 2.5]))
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert anndata.read_h5ad(tmp_path / "a.h5ad").obs["mixed"].tolist() == ["a", "2.5"]


def test_names_that_files_cannot_hold_are_changed(layout, tmp_path, caplog):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    with caplog.at_level(logging.INFO, logger="semiclip"):
        scl.io.plate_map(adata, layout.rename(columns={"drug": "drug/batch"}))
    assert caplog.messages[-1] == "files cannot hold '/' in names of columns; renamed drug/batch to drug_batch"
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert "drug_batch" in anndata.read_h5ad(tmp_path / "a.h5ad").obs


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("A1", "A01"),
        ("a1", "A01"),
        (" A01 ", "A01"),
        ("p024", "P24"),
        ("af48", "AF48"),
        ("well 3", "well 3"),
        ("A", "A"),
        ("A100", "A100"),
        ("7", "7"),
    ],
)
def test_wells_have_one_name(refuses, written, meant):
    adata = samples(["p1"], [written])
    scl.io.plate_map(adata, pd.DataFrame({"Plate": ["p1"], "Well": [meant], "x": [1]}))
    assert adata.obs["x"].tolist() == [1]
    with refuses(errors.Refused, items=[f"p1 {meant}"]):
        scl.io.plate_map(adata, pd.DataFrame({"Plate": ["p1"], "Well": ["A10"], "x": [1]}))


@given(st.integers(1, 48), st.sampled_from(["A", "h", "P", "aa", "AF"]), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_zeros_and_case_of_wells_do_not_matter(column, row, zeros):
    adata = samples(["p"], [f"{row}{'0' * zeros}{column}"])
    scl.io.plate_map(adata, pd.DataFrame({"Plate": ["p"], "Well": [f"{row.upper()}{column:02d}"], "x": [1]}))
    assert adata.obs["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("wells", "change", "arguments", "error", "data"),
    [
        (["A1", "H1", "h5", "h1"], {}, {}, errors.Refused, {"items": ["p1 H01", "p1 H05"]}),
        (
            ["A1"],
            {"Plate": "p1", "Well": ["a01", "B12", "A1", "B012"]},
            {},
            errors.Repeated,
            {"items": ["p1 A01", "p1 B12"]},
        ),
        (["A1"], {"Well": ["A1", None, "A1", None]}, {}, errors.MissingValues, {"rows": [1, 3]}),
        (
            ["A1"],
            {},
            {"on": {"Plate": "plate", "Well": "Well"}},
            errors.MissingColumn,
            {"key": ["plate"], "where": "the plate map"},
        ),
        (
            ["A1"],
            {},
            {"on": ("plate", "Well")},
            errors.MissingColumn,
            {"key": ["plate"], "name": "on", "there": ["Plate", "Well"]},
        ),
        (["A1", None], {}, {}, errors.MissingValues, {"rows": ["s1"]}),
        (["A1"], {}, {"on": ()}, errors.BadValue, {"name": "on"}),
        (["A1"], {"Metadata_drug": 1}, {}, errors.Repeated, {"items": ["drug"]}),
        (["A1"], {"dr/ug": "x", "dr_ug": "y"}, {}, errors.Repeated, {"items": ["dr/ug", "dr_ug"]}),
        ([], {}, {}, errors.Empty, {}),
    ],
)
def test_refuses(refuses, layout, wells, change, arguments, error, data):
    adata = samples(["p1"] * len(wells), wells)
    before = adata.obs.copy()
    with refuses(error, **data):
        scl.io.plate_map(adata, layout.assign(**change), **arguments)
    pd.testing.assert_frame_equal(adata.obs, before)


def test_refuses_a_view_and_columns_of_one_name(refuses, layout):
    with refuses(errors.CannotWrite, target="into a view"):
        scl.io.plate_map(samples(["p1", "p1"], ["A1", "A1"])[:1], layout)
    with refuses(errors.Repeated, items=["drug"]):
        scl.io.plate_map(samples(["p1"], ["A1"]), layout.set_axis(["Plate", "Well", "drug", "drug", "edge"], axis=1))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("map.pkl", b"cos\n."),
        ("map", b"Plate,Well\n"),
        ("empty.csv", b""),
        ("zip.csv.gz", b"no gzip"),
        ("map.csv.zip", b"nothing compressed"),
        ("map.csv.xz", b"nothing compressed"),
        ("map.csv.bz2", b"nothing compressed"),
        ("cut.csv.gz", gzip.compress(b"Plate,Well\n" * 999)[:30]),
        ("bytes.csv", b"Plate,Well\np1,\xff\xfe\n"),
        ("long.csv", b"Plate,Well\np1,A1\np1,A2,3,4\n"),
        ("first.csv", b"Plate,Well,x\np1,A1,1,2\np1,A2,3,4\n"),
    ],
)
def test_refuses_files_that_are_no_tables(refuses, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with refuses(errors.DamagedFile, path=tmp_path / name):
        scl.io.plate_map(samples(["p1"], ["A1"]), str(tmp_path / name))


def test_refuses_files_that_are_not_there_or_repeat_a_column(refuses, tmp_path):
    with refuses(errors.MissingFile, path=tmp_path / "none.csv"):
        scl.io.plate_map(samples(["p1"], ["A1"]), tmp_path / "none.csv")
    (tmp_path / "twice.csv").write_bytes(b"Plate,Well,Well\np1,A1,A1\n")
    with refuses(errors.Repeated, items=["Well"]):
        scl.io.plate_map(samples(["p1"], ["A1"]), tmp_path / "twice.csv")
    with refuses(errors.WrongType, name="table", got=dict):
        scl.io.plate_map(samples(["p1"], ["A1"]), {})
