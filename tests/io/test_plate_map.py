import gzip
import logging
import re

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import semiclip as scl
from semiclip.pp._tables import as_text, well_names


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
        assert scl.pp.annotate(adata, layout) is None
    assert adata.obs["drug"].tolist() == ["DMSO", "aspirin", "DMSO", "aspirin"]
    assert adata.obs["drug"].dtype == "category"
    assert adata.obs["dose"].tolist() == [0.0, 1.5, 0.0, 1.5]
    assert adata.obs["edge"].tolist() == [True, False, True, False]
    assert adata.obs["Well"].tolist() == ["a01", "b12", "A001", "B12"]  # left as it was
    assert adata.obs_names.tolist() == ["s0", "s1", "s2", "s3"]
    assert caplog.messages == ["1 of 4 wells of the plate map have no sample"]


def test_a_gap_in_the_map_stays_a_gap(layout):
    adata = samples(["p2"], ["C03"])
    scl.pp.annotate(adata, layout)
    assert adata.obs["drug"].isna().tolist() == [True]
    assert adata.obs["dose"].tolist() == [3.0]


def test_copy_leaves_the_original_alone(layout):
    adata = samples(["p1"], ["A1"])
    result = scl.pp.annotate(adata, layout, copy=True)
    assert adata.obs.columns.tolist() == ["Plate", "Well"]
    assert result.obs["drug"].tolist() == ["DMSO"]
    assert scl.pp.annotate(adata[:1], layout, copy=True).obs["drug"].tolist() == ["DMSO"]


def test_twice_is_as_once_and_the_log_names_what_is_replaced(layout, caplog):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    scl.pp.annotate(adata, layout)
    once = adata.obs.copy()
    with caplog.at_level(logging.INFO, logger="semiclip"):
        scl.pp.annotate(adata, layout)
    pd.testing.assert_frame_equal(adata.obs, once)
    assert "obs had drug, dose, edge already; the plate map replaces them" in caplog.messages


def test_other_names_of_the_columns_and_a_layout_for_all_plates(layout):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    other = layout.rename(columns={"Plate": "Metadata_Barcode", "Well": "well_position"})
    scl.pp.annotate(adata, other, on={"Plate": "Barcode", "Well": "well_position"})
    assert adata.obs["dose"].tolist() == [0.0, 3.0]
    assert "well_position" not in adata.obs
    scl.pp.annotate(adata, pd.DataFrame({"Well": ["A01", "C03"], "row": ["first", "third"]}), on="Well")
    assert adata.obs["row"].tolist() == ["first", "third"]


def test_finds_the_columns_of_images_by_their_prefix(layout):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    adata.obs.columns = ["Metadata_Plate", "Metadata_Well"]
    for plate_map in (layout, layout.add_prefix("Metadata_")):
        annotated = scl.pp.annotate(adata, plate_map, copy=True)
        assert annotated.obs["dose"].tolist() == [0.0, 3.0]
        assert annotated.obs.columns.tolist() == ["Metadata_Plate", "Metadata_Well", "drug", "dose", "edge"]
    named = layout.rename(columns={"Plate": "Barcode"})
    renamed = scl.pp.annotate(adata, named, on={"Plate": "Barcode", "Well": "Well"}, copy=True)
    assert renamed.obs["dose"].tolist() == [0.0, 3.0]
    adata.obs["Plate"] = "p1"  # the name itself comes first
    adata.obs["Well"] = "B12"
    scl.pp.annotate(adata, layout)
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
    scl.pp.annotate(adata, tmp_path / name)
    assert adata.obs["drug"].tolist() == ["None", "NA", "aspirin", "02"]
    np.testing.assert_array_equal(adata.obs["dose"], [0.0, 0.1, np.nan, 2.5])
    assert adata.obs["batch"].tolist() == [1, 1, 2, 2]
    assert adata.obs["note"].isna().all()


def test_a_label_of_nothing_beside_numbers_is_a_label(tmp_path):
    (tmp_path / "map.csv").write_text("Plate,Well,drug,dose\n1,A1,None,NA\n1,A2,101,2.5\n")
    adata = samples(["1", "1"], ["A01", "A02"])
    scl.pp.annotate(adata, tmp_path / "map.csv")
    assert adata.obs["drug"].tolist() == ["None", "101"]
    np.testing.assert_array_equal(adata.obs["dose"], [np.nan, 2.5])


def test_an_index_that_pandas_wrote_is_no_column(layout, tmp_path):
    layout.to_csv(tmp_path / "map.csv")
    adata = samples(["p1"], ["A1"])
    scl.pp.annotate(adata, tmp_path / "map.csv")
    assert adata.obs.columns.tolist() == layout.columns.tolist()


def test_plates_that_are_numbers_match_plates_that_are_text():
    layout = pd.DataFrame({"Plate": [1.0, 2.0], "Well": ["A1", "A1"], "drug": ["x", "y"]})
    for plates in (["2", "1"], [2, 1], pd.Categorical(["2", "1"])):
        adata = samples(plates, ["A1", "A1"])
        scl.pp.annotate(adata, layout)
        assert adata.obs["drug"].tolist() == ["y", "x"]


def test_the_result_goes_through_a_file(layout, tmp_path):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    scl.pp.annotate(adata, layout.assign(mixed=["a", 1, "b", 2.5]))
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert anndata.read_h5ad(tmp_path / "a.h5ad").obs["mixed"].tolist() == ["a", "2.5"]


def test_names_that_files_cannot_hold_are_changed(layout, tmp_path, caplog):
    adata = samples(["p1", "p2"], ["A1", "C3"])
    with caplog.at_level(logging.INFO, logger="semiclip"):
        scl.pp.annotate(adata, layout.rename(columns={"drug": "drug/batch"}))
    assert caplog.messages[-1] == "files cannot hold '/' in names of columns; renamed drug/batch to drug_batch"
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert "drug_batch" in anndata.read_h5ad(tmp_path / "a.h5ad").obs
    clash = layout.assign(**{"dr/ug": "x", "dr_ug": "y"})
    with pytest.raises(ValueError, match="columns dr/ug, dr_ug have one name once '/' is '_'"):
        scl.pp.annotate(samples(["p1"], ["A1"]), clash)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("A1", "A01"),
        ("a1", "A01"),
        (" A01 ", "A01"),
        ("p024", "P24"),
        ("af48", "AF48"),
        ("H12", "H12"),
        ("well 3", "well 3"),
        ("A", "A"),
        ("A100", "A100"),
        ("7", "7"),
    ],
)
def test_wells_have_one_name(written, meant):
    assert well_names(pd.Series([written]))[0] == meant


@given(st.integers(1, 48), st.sampled_from(["A", "h", "P", "aa", "AF"]), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_names_of_wells_are_stable(column, row, zeros):
    once = well_names(pd.Series([f"{row}{'0' * zeros}{column}"]))
    assert once[0] == f"{row.upper()}{column:02d}"
    assert well_names(once)[0] == once[0]


def test_text_of_numbers():
    gap = as_text(pd.Series([1.0, np.nan, 3.0]))
    assert gap.dropna().tolist() == ["1", "3"]
    assert gap.isna().tolist() == [False, True, False]
    assert as_text(pd.Series([1.5, 2.0])).tolist() == ["1.5", "2.0"]
    assert as_text(pd.Series([7, 8])).tolist() == ["7", "8"]


def test_refuses(layout):
    def refuses(error, message, adata=None, plate_map=layout, **how):
        adata = samples(["p1"], ["A1"]) if adata is None else adata
        before = adata.obs.copy()
        with pytest.raises(error, match=re.escape(message)):
            scl.pp.annotate(adata, plate_map, **how)
        pd.testing.assert_frame_equal(adata.obs, before)

    lost = samples(["p1"] * 8, ["A1", "H1", "H2", "H3", "H4", "h5", "H6", "h1"])
    message = "the plate map has no row for p1 H01, p1 H02, p1 H03, p1 H04, p1 H05, … (6 in all); it has p1 A01, p1 B12"
    refuses(ValueError, message, lost)
    twice = pd.concat([layout, layout[:2].assign(Well=["a01", "B12"])])
    refuses(ValueError, "the plate map has several rows for p1 A01, p1 B12; keep one row for each", plate_map=twice)
    gap = layout.assign(Well=["A1", None, "A1", None])
    refuses(ValueError, "does not say which well 2 row(s) are about: 1, 3; fill or drop them", plate_map=gap)
    refuses(KeyError, "the plate map has no column Plate, only plate, Well", plate_map=layout.rename(columns=str.lower)
            .rename(columns={"well": "Well"}))  # fmt: skip
    refuses(KeyError, "on='plate' is not a column of obs, which has Plate, Well", on=("plate", "Well"))
    refuses(KeyError, "as in on={'<column of obs>': 'plate'}", on=("plate", "Well"))
    refuses(ValueError, "obs['Well'] (on) has no value in 1 row(s): s1", samples(["p1", "p1"], ["A1", None]))
    refuses(ValueError, "on names no column; name those that say plate and well", on=())
    repeated = layout.set_axis(["Plate", "Well", "drug", "drug", "edge"], axis=1)
    refuses(ValueError, "the table has several columns of one name: drug; rename or drop them", plate_map=repeated)
    refuses(ValueError, "cannot write into a view", samples(["p1", "p1"], ["A1", "A1"])[:1])
    refuses(ValueError, "has no observations", samples([], []))


def test_refuses_files_that_are_none(tmp_path):
    adata = samples(["p1"], ["A1"])

    def refuses(error, message, name, content=None):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=message):
            scl.pp.annotate(adata, str(tmp_path / name))

    refuses(FileNotFoundError, "there is no file .*none.csv", "none.csv")
    refuses(ValueError, "map.pkl is not a table of a known kind: .csv, .tsv, .txt, .parquet", "map.pkl", b"cos\n.")
    refuses(ValueError, "map is not a table of a known kind", "map", b"Plate,Well\n")
    refuses(ValueError, "empty.csv cannot be read as a table", "empty.csv", b"")
    refuses(ValueError, "zip.csv.gz cannot be read as a table", "zip.csv.gz", b"no gzip")
    for kind in ("zip", "xz", "bz2"):
        refuses(ValueError, f"map.csv.{kind} cannot be read as a table", f"map.csv.{kind}", b"nothing compressed")
    refuses(ValueError, "cut.csv.gz cannot be read as a table", "cut.csv.gz", gzip.compress(b"Plate,Well\n" * 999)[:30])
    refuses(ValueError, "bytes.csv cannot be read as a table", "bytes.csv", b"Plate,Well\np1,\xff\xfe\n")
    refuses(ValueError, "long.csv cannot be read as a table", "long.csv", b"Plate,Well\np1,A1\np1,A2,3,4\n")
    refuses(ValueError, "first.csv cannot be read as a table", "first.csv", b"Plate,Well,x\np1,A1,1,2\np1,A2,3,4\n")
    refuses(ValueError, "has several columns of one name: Well", "twice.csv", b"Plate,Well,Well\np1,A1,A1\n")
