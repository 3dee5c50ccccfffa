import gzip
import logging

import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.io import plate_map
from semiclip.io._tables import read_positions


def samples(plates, wells):
    index = [f"s{i}" for i in range(len(wells))]
    return anndata.AnnData(obs=pd.DataFrame({"Plate": plates, "Well": wells}, index=index))


@pytest.fixture
def layout():
    keys = {"Plate": ["p1", "p1", "p2", "p2"], "Well": ["A1", "B12", "A1", "C3"]}
    labels = {"drug": ["DMSO", "aspirin", "DMSO", None], "dose": [0.0, 1.5, 0.0, 3.0], "edge": [True, False] * 2}
    return pd.DataFrame({**keys, **labels})


def test_each_sample_gets_what_its_well_had(layout, caplog):
    adata = samples(["p2", "p1", "p1", "p1", "p1"], ["a01", "b12", "A001", "B12", "B012"])
    with caplog.at_level(logging.INFO, logger="semiclip"):
        assert plate_map(adata, layout) is None
    assert adata.obs["drug"].tolist() == ["DMSO", "aspirin", "DMSO", "aspirin", "aspirin"]
    assert adata.obs["drug"].dtype == "category"
    assert adata.obs["dose"].tolist() == [0.0, 1.5, 0.0, 1.5, 1.5]
    assert adata.obs["edge"].tolist() == [True, False, True, False, False]
    assert adata.obs["Well"].tolist() == ["a01", "b12", "A001", "B12", "B012"]  # left as it was
    assert caplog.messages == ["1 of 4 wells of the plate map have no sample"]


def test_copy_leaves_the_original_alone_and_twice_is_as_once(layout, caplog):
    adata = samples(["p2", "p1"], ["C03", "A1"])
    result = plate_map(adata, layout, copy=True)
    assert adata.obs.columns.tolist() == ["Plate", "Well"]
    assert result.obs["drug"].isna().tolist() == [True, False]  # a gap stays a gap
    assert result.obs["dose"].tolist() == [3.0, 0.0]
    assert plate_map(adata[1:], layout, copy=True).obs["drug"].tolist() == ["DMSO"]
    once = result.obs.copy()
    with caplog.at_level(logging.INFO, logger="semiclip"):
        plate_map(result, layout)
    pd.testing.assert_frame_equal(result.obs, once)
    assert "obs had drug, dose, edge already; the plate map replaces them" in caplog.messages


def test_other_names_of_the_columns_and_a_layout_for_all_plates(layout):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    other = layout.rename(columns={"Plate": "Metadata_Barcode", "Well": "well_position"})
    plate_map(adata, other, on={"Plate": "Barcode", "Well": "well_position"})
    assert adata.obs["dose"].tolist() == [0.0, 3.0]
    assert "well_position" not in adata.obs
    plate_map(adata, pd.DataFrame({"Well": ["A01", "C03"], "row": ["first", "third"]}), on="Well")
    assert adata.obs["row"].tolist() == ["first", "third"]
    adata = samples(["p1", "p2"], ["A1", "C3"])  # with the prefix that images() gives
    adata.obs.columns = ["Metadata_Plate", "Metadata_Well"]
    named = layout.rename(columns={"Plate": "Barcode"})
    for name, table in {"Plate": layout, "Metadata_Plate": layout.add_prefix("Metadata_"), "Barcode": named}.items():
        annotated = plate_map(adata, table, on={"Plate": name, "Well": "Well"}, copy=True)
        assert annotated.obs.columns.tolist() == ["Metadata_Plate", "Metadata_Well", "drug", "dose", "edge"]
        assert annotated.obs["dose"].tolist() == [0.0, 3.0]
    adata.obs = adata.obs.assign(Plate="p1", Well="B12")  # the name itself comes first
    plate_map(adata, layout)
    assert adata.obs["dose"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("name", ["map.csv", "map.csv.gz", "map.tsv", "map.txt"])
def test_reads_files_as_they_were_meant(tmp_path, name):
    """Barcodes keep their zeros, labels that pandas takes for gaps stay labels, and numbers are numbers."""
    columns = {"Plate": "007", "Well": ["A1", "A2", "A3", "A4"], "drug": ["None", "NA", " aspirin ", "02"]}
    columns |= {"control": ["None", "101", "101", "7"], "dose": ["0", "1e-1", "NA", "2.5"], "batch": [1, 1, 2, 2]}
    pd.DataFrame({**columns, "note": ""}).to_csv(tmp_path / name, sep="," if ".csv" in name else "\t")
    adata = samples(["007"] * 4, ["A01", "A02", "A03", "A04"])
    plate_map(adata, tmp_path / name)
    assert adata.obs.columns.tolist() == [*columns, "note"]  # without the index that pandas wrote
    assert adata.obs["drug"].tolist() == ["None", "NA", "aspirin", "02"]
    assert adata.obs["control"].tolist() == ["None", "101", "101", "7"]  # a label beside numbers
    np.testing.assert_array_equal(adata.obs["dose"], [0.0, 0.1, np.nan, 2.5])
    assert adata.obs["batch"].tolist() == [1, 1, 2, 2]
    assert adata.obs["note"].isna().all()


def test_plates_that_are_numbers_match_plates_that_are_text():
    for plates in (["2", "1"], [2, 1], [2.0, 1.0], pd.Categorical(["2", "1"])):
        adata = samples(plates, ["A1", "A1"])
        plate_map(adata, pd.DataFrame({"Plate": [1.0, 2.0], "Well": "A1", "drug": ["x", "y"]}))
        assert adata.obs["drug"].tolist() == ["y", "x"]


def test_the_result_goes_through_a_file(layout, tmp_path, caplog):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    with caplog.at_level(logging.INFO, logger="semiclip"):
        plate_map(adata, layout.assign(mixed=["a", 1, "b", 2.5]).rename(columns={"drug": "drug/batch"}))
    assert caplog.messages[-1] == "files cannot hold '/' in names of columns; renamed drug/batch to drug_batch"
    adata.write_h5ad(tmp_path / "a.h5ad")
    stored = anndata.read_h5ad(tmp_path / "a.h5ad").obs
    assert stored["mixed"].tolist() == ["a", "2.5"]
    assert stored["drug_batch"].isna().tolist() == [False, True]


WELLS = {"a1": "A01", " A01 ": "A01", "p024": "P24", "af0048": "AF48", "H12": "H12", "aa7": "AA07"}
WELLS |= {"well 3": "well 3", "A100": "A100", "A": "A", "7": "7", "a0": "A00"}


def test_wells_have_one_name(refuses):
    adata = samples(["p1"] * len(WELLS), list(WELLS))
    names = list(dict.fromkeys(WELLS.values()))
    plate_map(adata, pd.DataFrame({"Plate": "p1", "Well": names, "x": names}))
    assert adata.obs["x"].tolist() == list(WELLS.values())
    with refuses(errors.Refused, items=[f"p1 {name}" for name in names]):
        plate_map(adata, pd.DataFrame({"Plate": ["p1"], "Well": ["A10"], "x": [1]}))


@pytest.mark.parametrize(
    ("wells", "columns", "on", "error", "data"),
    [
        (["A1", "H1", "h5", "h1"], {}, None, errors.Refused, {"items": ["p1 H01", "p1 H05"]}),
        (["A1"], {"Well": ["a01", "B1", "A1", "A1"]}, None, errors.Repeated, {"items": ["p2 A01"]}),
        (["A1"], {"Well": ["A1", None, "A1", None]}, None, errors.MissingValues, {"rows": [1, 3]}),
        (["A1"], {}, {"Plate": "plate"}, errors.MissingColumn, {"key": ["plate"], "where": "the plate map"}),
        (["A1"], {}, ("plate", "Well"), errors.MissingColumn, {"key": ["plate"], "name": "on"}),
        (["A1", None], {}, None, errors.MissingValues, {"rows": ["s1"]}),
        (["A1"], {}, (), errors.BadValue, {"name": "on"}),
        (["A1"], {"Metadata_drug": 1}, None, errors.Repeated, {"items": ["drug"]}),
        (["A1"], {"dr/ug": "x", "dr_ug": "y"}, None, errors.Repeated, {"items": ["dr/ug", "dr_ug"]}),
        ([], {}, None, errors.Empty, {}),
    ],
)
def test_refuses(refuses, layout, wells, columns, on, error, data):
    adata = samples(["p1"] * len(wells), wells)
    before = adata.obs.copy()
    with refuses(error, **data):
        plate_map(adata, layout.assign(**columns), **{} if on is None else {"on": on})
    pd.testing.assert_frame_equal(adata.obs, before)


BAD_FILES = {"map.pkl": b"cos\n.", "map": b"Plate,Well\n", "empty.csv": b"", "zip.csv.gz": b"no gzip"}
BAD_FILES |= {f"map.csv.{kind}": b"nothing compressed" for kind in ("zip", "xz", "bz2")}
BAD_FILES |= {"cut.csv.gz": gzip.compress(b"Plate,Well\n" * 999)[:30], "bytes.csv": b"Plate,Well\np1,\xff\xfe\n"}
BAD_FILES |= {"long.csv": b"Plate,Well\np1,A1\np1,A2,3,4\n", "first.csv": b"Plate,Well,x\np1,A1,1,2\np1,A2,3,4\n"}


def test_refuses_files_that_are_no_tables_views_other_types_and_names_that_repeat(refuses, layout, tmp_path):
    for name, content in BAD_FILES.items():
        (tmp_path / name).write_bytes(content)
        is_empty = not content
        data = {"what": f"rows in {tmp_path / name}"} if is_empty else {"path": tmp_path / name}
        with refuses(errors.Empty if is_empty else errors.DamagedFile, **data):
            plate_map(samples(["p1"], ["A1"]), str(tmp_path / name))
    adata = samples(["p1", "p1"], ["A1", "A1"])
    with refuses(errors.CannotWrite, target="into a view"):
        plate_map(adata[:1], layout)
    with refuses(errors.WrongType, name="table", got=dict):
        plate_map(adata, {})
    with refuses(errors.MissingFile, path=tmp_path / "none.csv"):
        plate_map(adata, tmp_path / "none.csv")
    twice = layout.set_axis(["Plate", "Well", "drug", "drug", "edge"], axis=1)
    twice.to_csv(tmp_path / "twice.csv", index=False)
    for table in (twice, tmp_path / "twice.csv"):
        with refuses(errors.Repeated, items=["drug"]):
            plate_map(adata, table)


def test_positions_of_wells_up_to_1536():
    wells = pd.Series(["A1", "h12", "P24", "Z09", "AA01", "AF48"])
    expected = [[0, 0], [7, 11], [15, 23], [25, 8], [26, 0], [31, 47]]
    assert read_positions(wells, "wells").to_numpy().tolist() == expected


def test_refuses_wells_without_a_position(refuses):
    with refuses(errors.Refused, items=[1, 2]):
        read_positions(pd.Series(["A1", "A00", "pool"]), "wells")
