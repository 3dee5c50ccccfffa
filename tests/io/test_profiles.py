import importlib.util
import logging
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"perturbation_key": "drug", "control": "DMSO"}
FEATURES = [f"{where}_{what}" for where in ("Cells", "Cytoplasm", "Nuclei") for what in ("Area", "Texture", "Mean")]
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


def make(plates=("p1", "p2"), cells=1, seed=0):
    """Plates of six wells, three of them controls, with so many cells each."""
    rng = np.random.default_rng(seed)
    wells = [f"{row}{column}" for row in "AB" for column in (1, 2, 10)]
    frame = pd.DataFrame(
        [(plate, well, cell) for plate in plates for well in wells for cell in range(cells)],
        columns=["Metadata_Plate", "Metadata_Well", "Metadata_ObjectNumber"],
    )
    drug = {"A1": "DMSO", "A2": "DMSO", "A10": "aspirin", "B1": "DMSO", "B2": "taxol", "B10": "aspirin"}
    frame["Metadata_drug"] = frame["Metadata_Well"].map(drug)
    frame["Metadata_dose"] = np.where(frame["Metadata_drug"] == "DMSO", 0.0, 1.5)
    values = (
        rng.normal(10, 3, (len(frame), len(FEATURES)))
        + 20 * frame.groupby("Metadata_Plate").ngroup().to_numpy()[:, None]
    )
    return pd.concat([frame, pd.DataFrame(values, columns=FEATURES)], axis=1)


def naive(table, clip=None):
    """Average, scale and clip one number after another."""
    result = {}
    for plate in table["Metadata_Plate"].unique():
        on_plate = table[table["Metadata_Plate"] == plate]
        for feature in FEATURES:
            wells = {well: np.median(rows[feature]) for well, rows in on_plate.groupby("Metadata_Well")}
            drug = on_plate.groupby("Metadata_Well")["Metadata_drug"].first()
            controls = np.array([value for well, value in wells.items() if drug[well] == "DMSO"])
            centre = np.median(controls)
            spread = 1.4826 * np.median(np.abs(controls - centre))
            for well, value in wells.items():
                scaled = (value - centre) / spread
                result[plate, well, feature] = scaled if clip is None else min(max(scaled, -clip), clip)
    return result


@pytest.mark.parametrize("cells", [1, 7])
@pytest.mark.parametrize("clip", [None, 2.0])
def test_is_what_is_done_by_hand(cells, clip):
    table = make(cells=cells)
    images = scl.io.profiles(table, clip=clip, **KEYS)
    expected = naive(table, clip)
    wells = {name[0] + "0" * (len(name) < 3) + name[1:]: name for name in table["Metadata_Well"].unique()}
    assert images.shape == (12, 9)
    assert images.var_names.tolist() == FEATURES
    for i, (plate, well) in enumerate(zip(images.obs["Plate"], images.obs["Well"], strict=True)):
        by_hand = [expected[plate, wells[well], feature] for feature in FEATURES]
        np.testing.assert_allclose(images.obsm["X_image"][i], by_hand, rtol=1e-5, atol=1e-6)


def test_controls_of_each_plate_have_median_zero_and_spread_one():
    images = scl.io.profiles(make(cells=3), clip=None, **KEYS)
    for plate in ("p1", "p2"):
        mask = ((images.obs["Plate"] == plate) & (images.obs["drug"] == "DMSO")).to_numpy()
        controls = images.obsm["X_image"][mask]
        np.testing.assert_allclose(np.median(controls, axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(np.median(np.abs(controls), axis=0) * 1.4826, 1, rtol=1e-5)


def test_says_what_each_row_is():
    images = scl.io.profiles(make(cells=4), **KEYS)
    assert images.obs.columns.tolist() == ["Plate", "Well", "drug", "dose", "n_rows"]  # cells have no row of their own
    assert images.obs_names.tolist()[:3] == ["p1:A01", "p1:A02", "p1:A10"]
    assert images.obs["drug"].tolist()[:3] == ["DMSO", "DMSO", "aspirin"]
    assert images.obs["n_rows"].tolist() == [4] * 12
    assert images.obsm["X_image"].dtype == images.X.dtype == np.float32
    np.testing.assert_array_equal(images.X, images.obsm["X_image"])
    assert not np.shares_memory(images.X, images.obsm["X_image"])


def test_cells_can_stay_cells():
    table = make(cells=5)
    images = scl.io.profiles(table, well_key=None, key_added="X_cells", **KEYS)
    assert images.obsm["X_cells"].shape == (60, 9)
    assert images.obs["ObjectNumber"].tolist()[:6] == [0, 1, 2, 3, 4, 0]
    assert "n_rows" not in images.obs
    assert images.obs_names.is_unique


def test_neither_order_nor_scale_of_the_table_matters():
    table = make(cells=3)
    images = scl.io.profiles(table, **KEYS)
    shuffled = scl.io.profiles(table.sample(frac=1, random_state=0), **KEYS)
    np.testing.assert_array_equal(shuffled[images.obs_names].obsm["X_image"], images.obsm["X_image"])
    tiny = table.assign(**{name: table[name] * 1e-9 + 3e-9 for name in FEATURES})
    np.testing.assert_allclose(scl.io.profiles(tiny, **KEYS).X, images.X, rtol=1e-4, atol=1e-4)


def test_the_table_is_not_changed():
    table = make(cells=2)
    table.loc[0, "Cells_Area"] = np.inf
    before = table.copy()
    scl.io.profiles(table, **KEYS)
    pd.testing.assert_frame_equal(table, before)


def test_features_with_nothing_to_say_go_and_the_log_says_why(caplog):
    table = make()
    table["Cells_Constant"] = 3.0
    table["Cells_Dead"] = np.where(table["Metadata_drug"] == "DMSO", 0.0, np.arange(12))
    table["Cells_Rounding"] = 0.1 + 1e-9 * np.arange(12)
    table["Nuclei_Gaps"] = np.where(np.arange(12) < 2, np.nan, np.arange(12.0))
    table["Nuclei_Infinite"] = np.where(np.arange(12) < 2, np.inf, np.arange(12.0))
    table["Nuclei_Text"] = "high"
    table["Image_Count"] = np.arange(12.0)  # of no compartment
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles(table, **KEYS)
    assert images.var_names.tolist() == FEATURES
    assert caplog.messages == [
        "1 feature(s) hold text, and go: Nuclei_Text",
        "9 of 14 features stay; 2 with more than 5% missing, 1 with one value alone, "
        "2 without spread among the controls of a plate",
    ]


def test_a_feature_goes_if_one_plate_cannot_scale_it():
    table = make()
    on_first = (table["Metadata_Plate"] == "p1") & (table["Metadata_drug"] == "DMSO")
    table.loc[on_first, "Cells_Area"] = 5.0
    table.loc[on_first, "Cells_Mean"] = np.nan
    images = scl.io.profiles(table, max_missing=0.5, **KEYS)
    assert images.var_names.tolist() == [name for name in FEATURES if name not in ("Cells_Area", "Cells_Mean")]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_few_missing_values_become_the_median_of_the_controls(caplog, bad):
    table = make()
    table.loc[[2, 4], "Cells_Area"] = bad
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles(table, max_missing=0.2, **KEYS)
    assert images.X[[2, 4], 0].tolist() == [0.0, 0.0]
    assert "2 missing values in 2 row(s) become 0" in caplog.messages
    assert "Cells_Area" not in scl.io.profiles(table, **KEYS).var_names
    others = images[:, FEATURES[1:]].X
    np.testing.assert_array_equal(others, scl.io.profiles(make(), **KEYS)[:, FEATURES[1:]].X)


def test_a_missing_cell_is_not_a_missing_well():
    table = make(cells=5)
    table.loc[0, "Cells_Area"] = np.nan
    images = scl.io.profiles(table, max_missing=0, clip=None, **KEYS)
    expected = naive(table.drop(index=0))
    assert images.X[0, 0] == pytest.approx(expected["p1", "A1", "Cells_Area"], rel=1e-5)


def test_wells_without_any_value_are_left_out(caplog):
    table = make()
    table.loc[[2], FEATURES] = np.nan
    with caplog.at_level(logging.WARNING, logger="semiclip"):
        images = scl.io.profiles(table, **KEYS)
    assert images.n_obs == 11
    assert "p1:A10" not in images.obs_names
    assert caplog.messages == ["no feature has a value in 1 row(s), which are left out: p1:A10"]


def test_a_table_per_plate_is_as_one_table(tmp_path):
    table = make(cells=3)
    images = scl.io.profiles(table, **KEYS)
    files = []
    for plate, rows in table.groupby("Metadata_Plate"):
        files.append(tmp_path / f"{plate}.csv.gz")
        rows.to_csv(files[-1], index=False)
    together = scl.io.profiles(files, **KEYS)
    np.testing.assert_allclose(together.X, images.X, rtol=1e-6)
    pd.testing.assert_frame_equal(together.obs, images.obs)


def test_tables_keep_the_features_that_all_have(caplog):
    first, second = make(["p1"]), make(["p2"], seed=1)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles([first, second.drop(columns="Cells_Area")], **KEYS)
    assert images.var_names.tolist() == FEATURES[1:]
    assert "1 feature(s) are not in all tables, and go" in caplog.messages


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz", "p.tsv", pytest.param("p.parquet", marks=needs_pyarrow)])
def test_files_are_as_the_table(tmp_path, name):
    table = make(["001", "002"], cells=2)
    path = tmp_path / name
    if name.endswith("parquet"):
        table.set_index("Metadata_Plate").to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if name.endswith("tsv") else ",")
    images = scl.io.profiles(path, **KEYS)
    assert images.obs["Plate"].cat.categories.tolist() == ["001", "002"]
    np.testing.assert_allclose(images.X, scl.io.profiles(table, **KEYS).X, rtol=1e-6)
    assert images.obs["dose"].tolist() == scl.io.profiles(table, **KEYS).obs["dose"].tolist()


def test_a_plate_map_says_what_the_table_does_not(refuses, tmp_path):
    table = make(cells=2)
    images = scl.io.profiles(table, **KEYS)
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_drug", "Metadata_dose"]
    table[columns].drop_duplicates().to_csv(tmp_path / "map.csv", index=False)
    bare = table.drop(columns=columns[2:])
    mapped = scl.io.profiles(bare, plate_map=tmp_path / "map.csv", **KEYS)
    np.testing.assert_array_equal(mapped.X, images.X)
    assert mapped.obs["drug"].tolist() == images.obs["drug"].tolist()
    cells = scl.io.profiles(bare, plate_map=tmp_path / "map.csv", well_key=None, **KEYS)
    assert cells.obs["dose"].tolist() == table["Metadata_dose"].tolist()
    with refuses(errors.Refused, items=["p1 A01", "p2 A01", "p2 A02", "p2 A10", "p2 B01", "p2 B02", "p2 B10"]):
        scl.io.profiles(bare, plate_map=table[columns][2:12].drop_duplicates(), **KEYS)


def test_features_by_name_or_by_beginning():
    table = make().rename(columns={"Cells_Area": "emb_1", "Cells_Mean": "emb_10", "Cells_Texture": "emb_2"})
    for features, expected in [
        ("emb_", ["emb_1", "emb_2", "emb_10"]),
        (["emb_1"], ["emb_1"]),
        (("emb_2", "Nuclei_"), ["emb_2", "Nuclei_Area", "Nuclei_Texture", "Nuclei_Mean"]),
    ]:
        assert scl.io.profiles(table, features=features, **KEYS).var_names.tolist() == expected
    assert scl.io.profiles(table, **KEYS).n_vars == 6


def test_columns_may_be_named_with_their_prefix():
    keys = {"perturbation_key": "Metadata_drug", "batch_key": "Metadata_Plate", "well_key": "Metadata_Well"}
    images = scl.io.profiles(make(), control=["DMSO"], **keys)
    np.testing.assert_array_equal(images.X, scl.io.profiles(make(), **KEYS).X)


def test_goes_through_a_file_and_pairs(tmp_path):
    images = scl.io.profiles(make(cells=2), **KEYS)
    images.write_h5ad(tmp_path / "a.h5ad")
    stored = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(stored.obsm["X_image"], images.obsm["X_image"])
    scl.pp.pea_correct(stored, use_rep="X_image", batch_key="Plate", method="center", **KEYS)
    assert np.isfinite(stored.obsm["X_image_center"]).all()


def test_records_how_it_was_made_in_names_that_files_hold(refuses, tmp_path, caplog):
    table = make(cells=2).rename(columns={"Metadata_dose": "Metadata_conc/uM", "Metadata_drug": "Metadata_drug/name"})
    keys = {"perturbation_key": "drug/name", "control": ["DMSO"], "key_added": "X_cells"}
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles(table, clip=5, **keys)
    assert any(message.endswith("renamed drug/name to drug_name, conc/uM to conc_uM") for message in caplog.messages)
    images.write_h5ad(tmp_path / "a.h5ad")
    stored = anndata.read_h5ad(tmp_path / "a.h5ad")
    expected = scl.io.profiles(make(cells=2), clip=5, **KEYS)
    np.testing.assert_array_equal(stored.obsm["X_cells"], expected.X)
    assert stored.obs["conc_uM"].tolist() == expected.obs["dose"].tolist()
    assert stored.obs["drug_name"].tolist() == expected.obs["drug"].tolist()
    params = stored.uns["semiclip"]["X_cells"]["params"]
    assert params.pop("control").tolist() == ["DMSO"]
    assert params.pop("features").tolist() == ["Cells_", "Cytoplasm_", "Nuclei_"]
    columns = {"perturbation_key": "drug_name", "batch_key": "Plate", "well_key": "Well"}
    assert params == columns | {"clip": 5, "max_missing": 0.05, "from_plate_map": False}
    with refuses(errors.Repeated, items=["conc/uM", "conc_uM"]):
        scl.io.profiles(table.assign(Metadata_conc_uM=1), **keys)


def test_a_column_of_the_table_called_n_rows_is_kept(caplog):
    images = scl.io.profiles(make(cells=3).assign(Metadata_n_rows=8), **KEYS)
    assert images.obs["n_rows"].tolist() == [3] * 12
    assert images.obs["Metadata_n_rows"].tolist() == [8] * 12
    assert "n_rows counts the rows of a well; the column of the table is now Metadata_n_rows" in caplog.messages


@pytest.mark.parametrize("empty", [None, "", " "])
def test_cells_lack_a_label_in_all_of_a_well_or_none(refuses, empty):
    table = make(cells=3)
    table.loc[[0, 20], "Metadata_drug"] = empty
    with refuses(errors.Refused, items=["p1:A01", "p2:A01"]):
        scl.io.profiles(table, **KEYS)
    table.loc[table["Metadata_Well"] == "B2", "Metadata_drug"] = empty
    with refuses(errors.MissingValues, rows=["p1:B02", "p2:B02"]):
        scl.io.profiles(table.drop(index=[0, 20]), **KEYS)


def test_agrees_with_pycytominer():
    pytest.importorskip("pycytominer")
    from pycytominer import aggregate, feature_select, normalize

    table = make(cells=9, seed=3)
    table["Cells_Constant"] = 1.0
    strata = ["Metadata_Plate", "Metadata_Well", "Metadata_drug"]
    wells = aggregate(table, strata=strata, operation="median")
    chosen = feature_select(wells, operation=["variance_threshold", "drop_na_columns"])
    scaled = pd.concat(
        normalize(rows, method="mad_robustize", samples="Metadata_drug == 'DMSO'")
        for _, rows in chosen.groupby("Metadata_Plate")
    )
    images = scl.io.profiles(table, clip=None, **KEYS)
    names = scaled["Metadata_Plate"] + ":" + scaled["Metadata_Well"].str.replace(r"^(.)(\d)$", r"\g<1>0\2", regex=True)
    assert images.var_names.tolist() == [name for name in scaled if not name.startswith("Metadata_")]
    np.testing.assert_allclose(images[names].X, scaled[FEATURES], rtol=1e-5, atol=1e-5)


def drop_controls(table):
    return table[(table["Metadata_Plate"] == "p1") | ~table["Metadata_Well"].isin(["A1", "A2"])]


WELLS = [f"p{plate}:{well}" for plate in (1, 2) for well in ("A01", "A02", "A10", "B01", "B02", "B10")]


@pytest.mark.parametrize(
    ("change", "arguments", "error", "data"),
    [
        (lambda table: table.rename(columns=lambda name: name[9:]), {}, errors.Empty, {}),
        (lambda table: table.drop(columns=FEATURES), {}, errors.Empty, {}),
        (lambda table: table.drop(columns=FEATURES).assign(x=1.0), {"features": "emb_"}, errors.Empty, {}),
        (
            lambda table: table,
            {"features": ["Cells_", "emb_"]},
            errors.Empty,
            {"what": "features that begin with emb_"},
        ),
        (lambda table: table, {"control": "dmso"}, errors.UnknownControl, {"labels": ["dmso"]}),
        (lambda table: table, {"control": []}, errors.UnknownControl, {}),
        (drop_controls, {}, errors.Refused, {"items": ["p2 (1)"]}),
        (lambda table: pd.concat([table, table["Cells_Area"]], axis=1), {}, errors.Repeated, {"items": ["Cells_Area"]}),
        (lambda table: table, {"batch_key": "Barcode"}, errors.MissingColumn, {"key": ["Barcode"]}),
        (lambda table: table, {"perturbation_key": "gene"}, errors.MissingColumn, {"key": ["gene"]}),
        (lambda table: table, {"well_key": "Site"}, errors.MissingColumn, {"key": ["Site"]}),
        (lambda table: table.assign(Metadata_Well=None), {}, errors.MissingValues, {"rows": [*range(12)]}),
        (lambda table: pd.concat([table, table.assign(Metadata_drug="x")]), {}, errors.Refused, {"items": WELLS}),
        (lambda table: [table, table], {}, errors.Repeated, {"items": WELLS}),
        (lambda table: [], {}, errors.Empty, {"what": "tables"}),
        (lambda table: table.assign(**dict.fromkeys(FEATURES, 1.0)), {}, errors.Empty, {"what": "features left of 9"}),
        (lambda table: table, {"max_missing": 1}, errors.BadValue, {"name": "max_missing", "value": 1}),
        (lambda table: table, {"clip": 0}, errors.BadValue, {"name": "clip", "value": 0}),
        (lambda table: table, {"key_added": "a/b"}, errors.CannotWrite, {}),
        (lambda table: None, {}, errors.WrongType, {"name": "table", "got": type(None)}),
    ],
)
def test_refuses(refuses, change, arguments, error, data):
    with refuses(error, **data):
        scl.io.profiles(change(make()), **KEYS | arguments)


def test_an_anndata_becomes_a_table_as_the_error_says(refuses):
    table = make()
    table.index = table.index.astype(str)
    is_obs = table.columns.str.startswith("Metadata_")
    obs = table.loc[:, is_obs].rename(columns=lambda name: name.removeprefix("Metadata_"))
    adata = anndata.AnnData(table.loc[:, ~is_obs], obs=obs)
    for tables in (adata, [table, adata]):
        with refuses(errors.WrongType, name="table", got=anndata.AnnData):
            scl.io.profiles(tables, **KEYS)
    again = scl.io.profiles(adata.obs.add_prefix("Metadata_").join(adata.to_df()), **KEYS)
    np.testing.assert_array_equal(again.X, scl.io.profiles(table, **KEYS).X)


HEADER = "Metadata_Plate,Metadata_Well,Metadata_drug,Cells_A"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none.csv", None, errors.MissingFile),
        ("p.pkl", "", errors.DamagedFile),
        ("empty.csv", "", errors.DamagedFile),
        ("twice.csv", f"{HEADER},Cells_A\n", errors.Repeated),
        ("long.csv", f"{HEADER}\np,A1,1,2-diol,3.0\n", errors.DamagedFile),
        pytest.param("p.parquet", "PAR1 and nothing else", errors.DamagedFile, marks=needs_pyarrow),
    ],
)
def test_refuses_files(refuses, tmp_path, name, content, error):
    if content is not None:
        (tmp_path / name).write_text(content)
    with refuses(error, **{} if error is errors.Repeated else {"path": tmp_path / name}):
        scl.io.profiles(tmp_path / name, **KEYS)


def test_names_the_package_that_reads_parquet(refuses, tmp_path, monkeypatch):
    (tmp_path / "p.parquet").write_text("PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with refuses(errors.MissingExtra, install="pyarrow"):
        scl.io.profiles(tmp_path / "p.parquet", **KEYS)
