import importlib.util
import logging
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

from semiclip import errors
from semiclip.io import profiles

KEYS = {"perturbation_key": "drug", "control": "DMSO"}
FEATURES = [f"{where}_{what}" for where in ("Cells", "Cytoplasm", "Nuclei") for what in ("Area", "Texture", "Mean")]
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


def make(plates=("p1", "p2"), cells=1, seed=0):
    """Plates of six wells, three of them controls, with so many cells each."""
    drug = {"A1": "DMSO", "A2": "DMSO", "A10": "aspirin", "B1": "DMSO", "B2": "taxol", "B10": "aspirin"}
    keys = pd.MultiIndex.from_product([plates, drug, range(cells)], names=["Plate", "Well", "ObjectNumber"])
    frame = keys.to_frame(index=False).assign(drug=keys.get_level_values("Well").map(drug))
    frame["dose"] = np.where(frame["drug"] == "DMSO", 0.0, 1.5)
    values = np.random.default_rng(seed).normal(10, 3, (len(frame), len(FEATURES))) + 20 * keys.codes[0][:, None]
    return frame.add_prefix("Metadata_").join(pd.DataFrame(values, columns=FEATURES))


def naive(table, clip=np.inf):
    """Average, scale and clip one number after another; the result by plate, well and feature."""
    result = {}
    for plate, rows in table.groupby("Metadata_Plate"):
        groups = rows.groupby("Metadata_Well")
        is_control = groups["Metadata_drug"].first() == "DMSO"
        for feature in FEATURES:
            values = groups[feature].apply(np.median)
            centre = np.median(values[is_control])
            spread = 1.4826 * np.median(np.abs(values[is_control] - centre))
            for well, value in values.items():
                name = f"{plate}:{well if len(well) == 3 else well[0] + '0' + well[1]}"
                result[name, feature] = min(max((value - centre) / spread, -clip), clip)
    return pd.Series(result).unstack()[FEATURES]


@pytest.mark.parametrize(("cells", "clip"), [(1, 2.0), (7, None)])
def test_is_what_is_done_by_hand(cells, clip):
    table = make(cells=cells)
    images = profiles(table, clip=clip, **KEYS)
    expected = naive(table, clip or np.inf)
    assert images.var_names.tolist() == FEATURES
    np.testing.assert_allclose(images.X, expected.loc[images.obs_names], rtol=1e-5, atol=1e-6)


def test_says_what_each_row_is():
    images = profiles(make(cells=4).assign(Metadata_n_rows=8), **KEYS)
    columns = ["Plate", "Well", "drug", "dose", "Metadata_n_rows", "n_rows"]
    assert images.obs.columns.tolist() == columns  # without the number of the cell
    assert images.obs["Metadata_n_rows"].tolist() == [8] * 12
    assert images.obs_names.tolist()[:3] == ["p1:A01", "p1:A02", "p1:A10"]
    assert images.obs["drug"].tolist()[:3] == ["DMSO", "DMSO", "aspirin"]
    assert images.obs["n_rows"].tolist() == [4] * 12
    assert images.obsm["X_image"].dtype == images.X.dtype == np.float32
    np.testing.assert_array_equal(images.X, images.obsm["X_image"])
    assert not np.shares_memory(images.X, images.obsm["X_image"])
    cells = profiles(make(cells=5), well_key=None, key_added="X_cells", **KEYS)
    assert cells.obsm["X_cells"].shape == (60, 9)
    assert cells.obs["ObjectNumber"].tolist()[:6] == [0, 1, 2, 3, 4, 0]
    assert "n_rows" not in cells.obs
    assert cells.obs_names.is_unique


def test_neither_order_nor_scale_of_the_table_nor_prefixes_of_keys_matter():
    table = make(cells=3)
    before = table.copy()
    images = profiles(table, **KEYS)
    pd.testing.assert_frame_equal(table, before)
    shuffled = profiles(table.sample(frac=1, random_state=0), **KEYS)
    np.testing.assert_array_equal(shuffled[images.obs_names].obsm["X_image"], images.obsm["X_image"])
    tiny = table.assign(**{name: table[name] * 1e-9 + 3e-9 for name in FEATURES})
    keys = {"perturbation_key": "Metadata_drug", "batch_key": "Metadata_Plate", "well_key": "Metadata_Well"}
    np.testing.assert_allclose(profiles(tiny, control=["DMSO"], **keys).X, images.X, rtol=1e-4, atol=1e-4)


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
        images = profiles(table, **KEYS)
    assert images.var_names.tolist() == FEATURES
    reasons = "2 with more than 5% missing, 1 constant, 2 without spread among the controls of a plate"
    rounding = "1 feature(s) vary among controls by less than a millionth of their largest value: Cells_Rounding"
    text = "1 feature(s) hold text, and go: Nuclei_Text"
    assert caplog.messages == [text, rounding, f"9 of 14 features stay; {reasons}"]
    table = make()  # one plate that cannot scale a feature is enough
    on_first = (table["Metadata_Plate"] == "p1") & (table["Metadata_drug"] == "DMSO")
    table.loc[on_first, "Cells_Area"] = 5.0
    table.loc[on_first, "Cells_Mean"] = np.nan
    images = profiles(table, max_missing=0.5, **KEYS)
    assert images.var_names.tolist() == [name for name in FEATURES if name not in ("Cells_Area", "Cells_Mean")]


def test_few_missing_values_become_the_median_of_the_controls(caplog):
    table = make()
    table.loc[[2, 4], "Cells_Area"] = [np.nan, -np.inf]
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = profiles(table, max_missing=0.2, **KEYS)
    assert images.X[[2, 4], 0].tolist() == [0.0, 0.0]
    assert "2 missing values in 2 row(s) become 0" in caplog.messages
    assert "Cells_Area" not in profiles(table, **KEYS).var_names
    others = images[:, FEATURES[1:]].X
    np.testing.assert_array_equal(others, profiles(make(), **KEYS)[:, FEATURES[1:]].X)


def test_a_missing_cell_is_no_missing_well_and_wells_without_any_value_are_left_out(warned):
    table = make(cells=5)
    table.loc[0, "Cells_Area"] = np.nan
    images = profiles(table, max_missing=0, clip=None, **KEYS)
    assert images.X[0, 0] == pytest.approx(naive(table.drop(index=0)).loc["p1:A01", "Cells_Area"], rel=1e-5)
    table = make()
    table.loc[[2], FEATURES] = np.nan
    assert not warned()
    images = profiles(table, **KEYS)
    assert images.n_obs == 11
    (message,) = warned()
    assert "1 row(s)" in message
    assert message.endswith(": p1:A10")


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz", "p.tsv", pytest.param("p.parquet", marks=needs_pyarrow)])
def test_a_file_per_plate_is_as_one_table(tmp_path, name):
    table = make(["001", "002"], cells=2)
    images = profiles(table, **KEYS)
    for plate, rows in table.groupby("Metadata_Plate"):
        if name.endswith("parquet"):
            rows.set_index("Metadata_Plate").to_parquet(tmp_path / f"{plate}{name}")
        else:
            rows.to_csv(tmp_path / f"{plate}{name}", sep="\t" if name.endswith("tsv") else ",")
    together = profiles([tmp_path / f"001{name}", tmp_path / f"002{name}"], **KEYS)
    np.testing.assert_allclose(together.X, images.X, rtol=1e-6)
    pd.testing.assert_frame_equal(together.obs[images.obs.columns], images.obs)
    fewer = profiles([tmp_path / f"001{name}", table[12:].drop(columns="Cells_Area")], **KEYS)
    assert fewer.var_names.tolist() == FEATURES[1:]


def test_a_plate_map_says_what_the_table_does_not(refuses, tmp_path):
    table = make(cells=2)
    images = profiles(table, **KEYS)
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_drug", "Metadata_dose"]
    table[columns].drop_duplicates().to_csv(tmp_path / "map.csv", index=False)
    bare = table.drop(columns=columns[2:])
    mapped = profiles(bare, plate_map=tmp_path / "map.csv", **KEYS)
    np.testing.assert_array_equal(mapped.X, images.X)
    assert mapped.obs["drug"].tolist() == images.obs["drug"].tolist()
    cells = profiles(bare, plate_map=tmp_path / "map.csv", well_key=None, **KEYS)
    assert cells.obs["dose"].tolist() == table["Metadata_dose"].tolist()
    with refuses(errors.Refused, items=["p1 A01", "p2 A01", "p2 A02", "p2 A10", "p2 B01", "p2 B02", "p2 B10"]):
        profiles(bare, plate_map=table[columns][2:12].drop_duplicates(), **KEYS)


def test_features_by_name_or_by_beginning():
    table = make().rename(columns={"Cells_Area": "emb_1", "Cells_Mean": "emb_10", "Cells_Texture": "emb_2"})
    nuclei = ["Nuclei_Area", "Nuclei_Texture", "Nuclei_Mean"]
    chosen = {"emb_": ["emb_1", "emb_2", "emb_10"], ("emb_1",): ["emb_1"], ("emb_2", "Nuclei_"): ["emb_2", *nuclei]}
    for features, expected in chosen.items():
        assert profiles(table, features=features, **KEYS).var_names.tolist() == expected
    assert profiles(table, **KEYS).n_vars == 6


def test_records_how_it_was_made_in_names_that_files_hold(refuses, tmp_path, caplog):
    table = make(cells=2).rename(columns={"Metadata_dose": "Metadata_conc/uM", "Metadata_drug": "Metadata_drug/name"})
    keys = {"perturbation_key": "drug/name", "control": ["DMSO"], "key_added": "X_cells"}
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = profiles(table, clip=5, **keys)
    assert any(message.endswith("renamed drug/name to drug_name, conc/uM to conc_uM") for message in caplog.messages)
    images.write_h5ad(tmp_path / "a.h5ad")
    stored = anndata.read_h5ad(tmp_path / "a.h5ad")
    expected = profiles(make(cells=2), clip=5, **KEYS)
    np.testing.assert_array_equal(stored.obsm["X_cells"], expected.X)
    assert stored.obs["conc_uM"].tolist() == expected.obs["dose"].tolist()
    assert stored.obs["drug_name"].tolist() == expected.obs["drug"].tolist()
    params = stored.uns["semiclip"]["X_cells"]["params"]
    assert params.pop("control").tolist() == ["DMSO"]
    assert params.pop("features").tolist() == ["Cells_", "Cytoplasm_", "Nuclei_"]
    settings = {"well_key": "Well", "clip": 5, "max_missing": 0.05, "from_plate_map": False, "keep_positions": False}
    assert params == {"perturbation_key": "drug_name", "batch_key": "Plate", **settings}
    with refuses(errors.Repeated, items=["conc/uM", "conc_uM"]):
        profiles(table.assign(Metadata_conc_uM=1), **keys)


def test_cells_lack_a_label_in_all_of_a_well_or_none(refuses):
    for empty in (None, "", " "):
        table = make(cells=3)
        table.loc[[0, 20], "Metadata_drug"] = empty
        with refuses(errors.Refused, items=["p1:A01", "p2:A01"]):
            profiles(table, **KEYS)
        table.loc[table["Metadata_Well"] == "B2", "Metadata_drug"] = empty
        with refuses(errors.MissingValues, rows=["p1:B02", "p2:B02"]):
            profiles(table.drop(index=[0, 20]), **KEYS)


same = pd.DataFrame.copy
WELLS = [f"p{plate}:{well}" for plate in (1, 2) for well in ("A01", "A02", "A10", "B01", "B02", "B10")]


@pytest.mark.parametrize(
    ("change", "arguments", "error", "data"),
    [
        (lambda table: table.rename(columns=lambda name: name[9:]), {}, errors.Empty, {}),
        (lambda table: table.drop(columns=FEATURES), {}, errors.Empty, {}),
        (lambda table: table.drop(columns=FEATURES).assign(x=1.0), {"features": "emb_"}, errors.Empty, {}),
        (same, {"features": ["Cells_", "emb_"]}, errors.Empty, {}),
        (same, {"control": "dmso"}, errors.UnknownControl, {"labels": ["dmso"]}),
        (same, {"control": []}, errors.UnknownControl, {}),
        (lambda table: table.iloc[:-5], {}, errors.Refused, {"items": ["p2 (1)"]}),
        (same, {"batch_key": "Barcode"}, errors.MissingColumn, {"key": ["Barcode"]}),
        (same, {"perturbation_key": "gene"}, errors.MissingColumn, {"key": ["gene"]}),
        (same, {"well_key": "Site"}, errors.MissingColumn, {"key": ["Site"]}),
        (lambda table: table.assign(Metadata_Well=None), {}, errors.MissingValues, {"rows": [*range(12)]}),
        (lambda table: pd.concat([table, table.assign(Metadata_drug="x")]), {}, errors.Refused, {"items": WELLS}),
        (lambda table: [table, table], {}, errors.Repeated, {"items": WELLS}),
        (lambda table: [], {}, errors.Empty, {}),
        (lambda table: table.assign(**dict.fromkeys(FEATURES, 1.0)), {}, errors.Empty, {}),
        (same, {"max_missing": 1}, errors.BadValue, {"name": "max_missing", "value": 1}),
        (same, {"clip": 0}, errors.BadValue, {"name": "clip", "value": 0}),
    ],
)
def test_refuses(refuses, change, arguments, error, data):
    with refuses(error, **data):
        profiles(change(make()), **KEYS | arguments)


def test_an_anndata_becomes_a_table_as_the_error_says(refuses):
    table = make()
    table.index = table.index.astype(str)
    is_obs = table.columns.str.startswith("Metadata_")
    obs = table.loc[:, is_obs].rename(columns=lambda name: name.removeprefix("Metadata_"))
    adata = anndata.AnnData(table.loc[:, ~is_obs], obs=obs)
    for tables in (adata, [table, adata]):
        with refuses(errors.WrongType, name="table", got=anndata.AnnData):
            profiles(tables, **KEYS)
    again = profiles(adata.obs.add_prefix("Metadata_").join(adata.to_df()), **KEYS)
    np.testing.assert_array_equal(again.X, profiles(table, **KEYS).X)


def test_names_the_package_that_reads_parquet(refuses, tmp_path, monkeypatch):
    (tmp_path / "p.parquet").write_text("PAR1 and nothing else")
    if importlib.util.find_spec("pyarrow"):
        with refuses(errors.DamagedFile, path=tmp_path / "p.parquet"):
            profiles(tmp_path / "p.parquet", **KEYS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with refuses(errors.MissingExtra, install="pyarrow"):
        profiles(tmp_path / "p.parquet", **KEYS)
