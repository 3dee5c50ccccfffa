from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import semiclip as scl
from semiclip import errors
from semiclip.encoders import ImageEncoder

CHANNELS = ["DNA", "ER"]
KEYS = ["Metadata_Plate", "Metadata_Well"]


class Brightness:
    """Mean and spread of each channel."""

    def __init__(self):
        self.calls = []

    def encode(self, values):
        self.calls.append(values.shape)
        return np.concatenate([values.mean((2, 3)), values.std((2, 3))], axis=1).astype(np.float32)


def pixels(seed, *shape, dtype=np.uint16):
    return np.random.default_rng(seed).integers(0, 250 if dtype == np.uint8 else 4000, shape).astype(dtype)


@pytest.fixture
def plate(tmp_path):
    """Two plates of two wells with one to three sites, a file per channel; the table and the pixels of each well."""
    rows, wells = [], {}
    for i, (name, n_sites) in enumerate({"p2:A01": 2, "p1:B02": 1, "p1:B01": 3, "p2:A02": 2}.items()):
        plate, well = name.split(":")
        for site in range(n_sites):
            values = pixels(10 * i + site, 2, 20, 24)
            wells.setdefault(name, []).append(values)
            row = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site, "Metadata_dose": i / 2}
            row |= {"Metadata_compound": f"c{i}" if i else None, "note": i}
            for channel, plane in zip(CHANNELS, values, strict=True):
                row[f"FileName_{channel}"] = f"{plate}_{well}_{site}_{channel}.png"
                row[f"PathName_{channel}"] = plate
                (tmp_path / plate).mkdir(exist_ok=True)
                Image.fromarray(plane).save(tmp_path / plate / row[f"FileName_{channel}"])
            rows.append(row)
    return pd.DataFrame(rows), wells


def run(table, folder, **arguments):
    return scl.io.images(table, folder=folder, **{"encoder": Brightness(), "progress_bar": False, **arguments})


def test_a_well_is_the_mean_of_its_sites(plate, tmp_path):
    table, wells = plate
    adata = run(table, tmp_path)
    assert adata.obs_names.tolist() == ["p1:B01", "p1:B02", "p2:A01", "p2:A02"]
    expected = [np.mean(Brightness().encode(np.stack(wells[name])), axis=0) for name in adata.obs_names]
    np.testing.assert_allclose(adata.X, expected, rtol=1e-6)
    np.testing.assert_array_equal(adata.obsm["X_image"], adata.X)
    assert not np.shares_memory(adata.obsm["X_image"], adata.X)
    assert adata.X.dtype == adata.obsm["X_image"].dtype == np.float32
    assert adata.obs["n_images"].tolist() == [3, 1, 2, 2]
    assert adata.var_names.tolist() == ["image_0", "image_1", "image_2", "image_3"]


def test_metadata_that_are_constant_within_wells_are_kept(plate, tmp_path):
    sometimes = plate[0]["Metadata_Site"].map({0: "x"})
    obs = run(plate[0].assign(Metadata_sometimes=sometimes), tmp_path).obs
    kept = ["n_images", "Metadata_Plate", "Metadata_Well", "Metadata_dose", "Metadata_compound"]
    assert obs.columns.tolist() == kept
    assert obs["Metadata_dose"].tolist() == [1.0, 0.5, 0.0, 1.5]
    assert obs["Metadata_compound"].astype(object).fillna("gap").tolist() == ["c2", "c1", "gap", "c3"]
    renamed = run(plate[0], tmp_path, obs={"Metadata_Plate": "batch", "note": "number"}).obs
    assert renamed.columns.tolist() == ["n_images", "batch", *kept[2:], "number"]
    assert renamed["number"].tolist() == [2, 1, 0, 3]
    of_plates = run(plate[0], tmp_path, well_keys="Metadata_Plate").obs
    assert of_plates.index.tolist() == ["p1", "p2"]
    assert of_plates.columns.tolist() == ["n_images", "Metadata_Plate"]


def test_neither_the_order_of_rows_nor_chunks_nor_threads_matter(plate, tmp_path):
    expected, shuffled = run(plate[0], tmp_path), plate[0].sample(frac=1, random_state=3)
    for n in (1, 3, 16):
        adata = run(shuffled, tmp_path, n_sites=n, n_threads=n)
        np.testing.assert_array_equal(adata.X, expected.X)
        pd.testing.assert_frame_equal(adata.obs, expected.obs)


def test_few_sites_of_one_size_are_embedded_at_a_time(plate, tmp_path):
    table, encoder = plate[0], Brightness()
    run(table, tmp_path, encoder=encoder, n_sites=3)
    assert encoder.calls == [(3, 2, 20, 24), (3, 2, 20, 24), (2, 2, 20, 24)]
    for channel in CHANNELS:
        Image.fromarray(pixels(5, 30, 30)).save(tmp_path / "p1" / f"p1_B02_0_{channel}.png")
    encoder = Brightness()
    adata = run(table, tmp_path, encoder=encoder)
    assert encoder.calls == [(3, 2, 20, 24), (1, 2, 30, 30), (4, 2, 20, 24)]
    np.testing.assert_allclose(adata["p1:B02"].X[0, :2], pixels(5, 30, 30).mean(), rtol=1e-6)


def test_through_an_image_encoder_and_a_file(plate, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = ImageEncoder(network, normalize=((0.5, 0.4, 0.3), 0.2), size=16, device="cpu", progress_bar=False)
    table = plate[0].rename(columns={"Metadata_dose": "Metadata_conc/uM"})
    adata = run(table, tmp_path, encoder=encoder, key_added="X_teacher")
    expected = [encoder.encode(np.stack(plate[1][name])).mean(0) for name in adata.obs_names]
    np.testing.assert_allclose(adata.X, expected, rtol=1e-5, atol=1e-6)
    adata.write_h5ad(tmp_path / "teacher.h5ad")
    stored = anndata.read_h5ad(tmp_path / "teacher.h5ad")
    np.testing.assert_array_equal(stored.obsm["X_teacher"], adata.X)
    assert stored.obs["Metadata_conc_uM"].tolist() == [1.0, 0.5, 0.0, 1.5]
    params = stored.uns["semiclip"]["X_teacher"]["params"]
    assert (params["model"], params["image_channels"].tolist(), params["size"]) == ("Sequential", CHANNELS, 16)
    np.testing.assert_array_equal(params["normalize"]["mean"], np.float32([0.5, 0.4, 0.3]))
    assert params["rescale"].tolist() == [0.1, 99.9]


def test_a_csv_file_names_files_beside_it(plate, tmp_path):
    table = plate[0].assign(Metadata_Plate=plate[0]["Metadata_Plate"].map({"p1": "007", "p2": "1E2"}))
    for path in (tmp_path / "load_data.csv", str(tmp_path / "load_data.csv.gz")):
        table.to_csv(path, index=False)
        adata = scl.io.images(path, encoder=Brightness(), progress_bar=False)
        assert adata.obs_names.tolist() == ["007:B01", "007:B02", "1E2:A01", "1E2:A02"]
        np.testing.assert_array_equal(adata.X, run(plate[0], tmp_path).X)


def test_channels_are_chosen_and_ordered_and_constant_images_counted(plate, tmp_path, warned):
    table = plate[0].assign(FileName_IllumDNA="illum.npy")
    both = run(table, tmp_path)
    swapped = run(table, tmp_path, channels=["ER", "DNA"])
    np.testing.assert_array_equal(swapped.X, both.X[:, [1, 0, 3, 2]])
    np.testing.assert_array_equal(run(table, tmp_path, channels="ER").X, both.X[:, [1, 3]])
    path = tmp_path / "p1" / "p1_B02_0_ER.png"
    Image.fromarray(np.full((20, 24), 7, np.uint16)).save(path)
    assert not warned()
    run(plate[0], tmp_path)
    (message,) = warned()
    assert "1 of 16 image(s)" in message
    assert message.endswith(f": {path}")


same = pd.DataFrame.copy


def spoil(**columns):
    return lambda table: table.assign(**columns)


ONE_FILE = ["a.png", *[None] * 7]
NO_FILES = [Path("/x/p2_A01_0_ER.png"), Path("/x/p2_A01_1_ER.png")]


@pytest.mark.parametrize(
    ("change", "arguments", "error", "data"),
    [
        (lambda table: table.iloc[:0], {}, errors.Empty, {}),
        (lambda table: table[["Metadata_Plate"]], {}, errors.MissingColumn, {"key": ["Metadata_Well"]}),
        (lambda table: table[KEYS], {}, errors.MissingColumn, {"key": ["FileName_<channel>"]}),
        (spoil(Metadata_Well=None), {}, errors.MissingValues, {"rows": [*range(8)]}),
        (spoil(FileName_ER=ONE_FILE), {}, errors.MissingValues, {"rows": [*range(1, 8)]}),
        (lambda table: pd.concat([table, table[3:5]]), {}, errors.Repeated, {"items": [8, 9]}),
        (spoil(FileName_ER="a.npy"), {"folder": "/x"}, errors.DamagedFile, {"path": "/x/p2/a.npy, /x/p1/a.npy"}),
        (lambda table: table.assign(PathName_ER="/x")[:2], {}, errors.MissingFile, {"path": NO_FILES}),
        (same, {"channels": ["ER", "RNA"]}, errors.MissingColumn, {"key": ["FileName_RNA"]}),
        (same, {"channels": []}, errors.MissingColumn, {"key": ["FileName_<channel>"]}),
        (same, {"obs": {"Metadata_cell": "cell"}}, errors.MissingColumn, {"key": ["Metadata_cell"]}),
        (same, {"obs": {"Metadata_Site": "s"}}, errors.Refused, {}),
        (same, {"obs": {"note": "n_images"}}, errors.NameTaken, {"items": ["n_images"]}),
        (same, {"encoder": ImageEncoder}, errors.WrongType, {"name": "encoder", "got": type}),
        (same, {"n_sites": 0}, errors.BadValue, {"name": "n_sites", "value": 0}),
        (same, {"n_threads": 0}, errors.BadValue, {"name": "n_threads", "value": 0}),
    ],
)
def test_refuses(refuses, plate, tmp_path, change, arguments, error, data):
    encoder = Brightness()
    with refuses(error, **data):
        run(change(plate[0]), **{"folder": tmp_path, "encoder": encoder, **arguments})
    assert not encoder.calls


def noise(*shape, dtype=np.uint16):
    return lambda path: Image.fromarray(pixels(0, *shape, dtype=dtype)).save(path)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: path.write_bytes(b"no picture"), errors.DamagedFile),
        (noise(20, 25), errors.Refused),  # of another width than the other channel
        (noise(20, 24, 3, dtype=np.uint8), errors.Refused),  # of three channels
    ],
)
def test_names_all_bad_files_before_anything_is_embedded(plate, tmp_path, spoil, error):
    names, encoder = ["p1_B01_1_ER.png", "p1_B02_0_ER.png"], Brightness()
    for name in names:
        spoil(tmp_path / "p1" / name)
    with pytest.raises(error) as caught:
        run(plate[0], tmp_path, encoder=encoder)
    assert all(name in str(caught.value) for name in names)
    assert not encoder.calls


def test_refuses_a_truncated_picture_and_one_that_would_fill_the_memory(refuses, plate, tmp_path, monkeypatch):
    path = tmp_path / "p1" / "p1_B01_1_ER.png"
    path.write_bytes(path.read_bytes()[:300])
    with refuses(errors.DamagedFile, path=(path, None)):
        run(plate[0], tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with refuses(errors.DamagedFile, path="16 of 16 image(s)"):
        run(plate[0], tmp_path)


@pytest.mark.parametrize(
    ("encode", "error", "data"),
    [
        (lambda x: np.ones(len(x)), errors.WrongShape, {"shape": (3,), "needed": "(3, d)"}),
        (lambda x: np.ones((len(x), 0)), errors.WrongShape, {"shape": (3, 0), "needed": "(3, d)"}),
        (lambda x: np.ones((len(x), len(x))), errors.WrongShape, {"shape": (2, 2), "needed": "(2, 3)"}),
        (lambda x: np.full((len(x), 2), np.nan), errors.NotFinite, {}),
        (lambda x: {}["own error"], KeyError, {}),
    ],
)
def test_errors_of_the_encoder_name_the_files(plate, tmp_path, encode, error, data):
    encoder = Brightness()
    encoder.encode = encode
    with pytest.raises(error) as caught:
        run(plate[0], tmp_path, encoder=encoder, n_sites=3)
    assert {name: getattr(caught.value, name) for name in data} == data
    assert ".png" in caught.value.__notes__[0]
