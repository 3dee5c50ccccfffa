import gzip
import re

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from semiclip.encoders._image import ImageEncoder
from semiclip.pp._image_files import Source
from semiclip.pp._images import images

CHANNELS = ["DNA", "ER"]


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
    return images(table, folder=folder, **{"encoder": Brightness(), "progress_bar": False, **arguments})


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
    assert obs["Metadata_compound"].astype(object).where(obs["Metadata_compound"].notna(), None).tolist() == [
        "c2",
        "c1",
        None,
        "c3",
    ]
    renamed = run(plate[0], tmp_path, obs={"Metadata_Plate": "batch", "note": "number"}).obs
    assert renamed.columns.tolist() == ["n_images", "batch", *kept[2:], "number"]
    assert renamed["number"].tolist() == [2, 1, 0, 3]


@pytest.mark.parametrize("n_sites", [1, 3, 16])
def test_neither_the_order_of_rows_nor_chunks_nor_threads_matter(plate, tmp_path, n_sites):
    shuffled = plate[0].sample(frac=1, random_state=3)
    one, other = run(plate[0], tmp_path), run(shuffled, tmp_path, n_sites=n_sites, n_threads=n_sites)
    np.testing.assert_array_equal(one.X, other.X)
    pd.testing.assert_frame_equal(one.obs, other.obs)


def test_at_most_so_many_sites_are_embedded_at_a_time(plate, tmp_path):
    encoder = Brightness()
    run(plate[0], tmp_path, encoder=encoder, n_sites=3)
    assert encoder.calls == [(3, 2, 20, 24), (3, 2, 20, 24), (2, 2, 20, 24)]


def test_sites_of_several_sizes_are_stacked_apart(plate, tmp_path):
    table, wells = plate
    for channel in CHANNELS:
        Image.fromarray(pixels(5, 30, 30)).save(tmp_path / "p1" / f"p1_B02_0_{channel}.png")
    encoder = Brightness()
    adata = run(table, tmp_path, encoder=encoder)
    assert encoder.calls == [(3, 2, 20, 24), (1, 2, 30, 30), (4, 2, 20, 24)]
    np.testing.assert_allclose(adata["p1:B02"].X[0, :2], pixels(5, 30, 30).mean(), rtol=1e-6)


def test_through_an_image_encoder(plate, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = ImageEncoder(network, size=16, device="cpu", progress_bar=False)
    adata = run(plate[0], tmp_path, encoder=encoder)
    expected = [encoder.encode(np.stack(plate[1][name])).mean(0) for name in adata.obs_names]
    np.testing.assert_allclose(adata.X, expected, rtol=1e-5, atol=1e-6)
    params = adata.uns["semiclip"]["X_image"]["params"]
    assert (params["model"], params["image_channels"], params["size"]) == ("Sequential", CHANNELS, 16)
    adata.write_h5ad(tmp_path / "teacher.h5ad")
    stored = anndata.read_h5ad(tmp_path / "teacher.h5ad")
    np.testing.assert_array_equal(stored.obsm["X_image"], adata.X)
    assert stored.uns["semiclip"]["X_image"]["params"]["rescale"].tolist() == [0.1, 99.9]


def test_a_csv_file_names_files_beside_it(plate, tmp_path):
    table = plate[0].assign(Metadata_Plate=plate[0]["Metadata_Plate"].map({"p1": "007", "p2": "1E2"}))
    table.to_csv(tmp_path / "load_data.csv", index=False)
    adata = images(tmp_path / "load_data.csv", encoder=Brightness(), progress_bar=False)
    assert adata.obs_names.tolist() == ["007:B01", "007:B02", "1E2:A01", "1E2:A02"]
    np.testing.assert_array_equal(adata.X, run(plate[0], tmp_path).X)
    np.testing.assert_array_equal(images(str(tmp_path / "load_data.csv"), encoder=Brightness()).X, adata.X)

    table.to_csv(tmp_path / "load_data.csv.gz", index=False)
    np.testing.assert_array_equal(images(tmp_path / "load_data.csv.gz", encoder=Brightness()).X, adata.X)


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"FileName_DNA\n" * 999)[:30])
    with pytest.raises(ValueError, match="cut.csv.gz cannot be read as a table"):
        images(tmp_path / "cut.csv.gz", encoder=Brightness())
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.csv"):
        images(tmp_path / "none.csv", encoder=Brightness())


def test_channels_are_chosen_and_ordered(plate, tmp_path):
    table = plate[0].assign(FileName_IllumDNA="illum.npy")
    both = run(table, tmp_path)
    swapped = run(table, tmp_path, channels=["ER", "DNA"])
    np.testing.assert_array_equal(swapped.X, both.X[:, [1, 0, 3, 2]])
    np.testing.assert_array_equal(run(table, tmp_path, channels="ER").X, both.X[:, [1, 3]])


def test_wells_may_have_one_key(plate, tmp_path):
    adata = run(plate[0], tmp_path, well_keys="Metadata_Plate")
    assert adata.obs_names.tolist() == ["p1", "p2"]
    assert adata.obs.columns.tolist() == ["n_images", "Metadata_Plate"]


def test_normalisation_per_channel_goes_through_a_file(plate, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = ImageEncoder(network, normalize=((0.5, 0.4, 0.3), 0.2), size=16, device="cpu", progress_bar=False)
    run(plate[0], tmp_path, encoder=encoder, key_added="X_teacher").write_h5ad(tmp_path / "teacher.h5ad")
    stored = anndata.read_h5ad(tmp_path / "teacher.h5ad")
    assert list(stored.obsm) == list(stored.uns["semiclip"]) == ["X_teacher"]
    normalize = stored.uns["semiclip"]["X_teacher"]["params"]["normalize"]
    assert {name: values.tolist() for name, values in normalize.items()} == {
        "mean": np.float32([0.5, 0.4, 0.3]).tolist(),
        "std": [np.float32(0.2)],
    }


def test_names_of_columns_that_files_cannot_hold_are_changed(plate, tmp_path, caplog):
    table = plate[0].rename(columns={"Metadata_dose": "Metadata_conc/uM"})
    with caplog.at_level("INFO", logger="semiclip"):
        adata = run(table, tmp_path)
    assert caplog.messages[-1].endswith("renamed Metadata_conc/uM to Metadata_conc_uM")
    adata.write_h5ad(tmp_path / "teacher.h5ad")
    assert anndata.read_h5ad(tmp_path / "teacher.h5ad").obs["Metadata_conc_uM"].tolist() == [1.0, 0.5, 0.0, 1.5]
    with pytest.raises(ValueError, match="columns Metadata_conc/uM, Metadata_conc_uM have one name once '/' is '_'"):
        run(table.assign(Metadata_conc_uM=1), tmp_path)


def tiff(path, values, **arguments):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, values, **arguments)
    return Source(path)


def test_files_of_several_channels_and_pages(tmp_path):
    values = pixels(1, 2, 3, 20, 24)
    for site, pages in enumerate(values):
        tiff(tmp_path / f"{site}.tif", pages, photometric="minisblack")
    table = pd.DataFrame({"Metadata_Plate": "p", "Metadata_Well": ["A", "B"], "FileName_All": ["0.tif", "1.tif"]})
    whole = run(table, tmp_path)
    np.testing.assert_allclose(whole.X[:, :3], values.mean((2, 3)))
    paged = table.assign(FileName_a=table["FileName_All"], FileName_b=table["FileName_All"], Frame_a=2, Frame_b=0)
    out = run(paged, tmp_path, channels=["a", "b"])
    np.testing.assert_array_equal(out.X, whole.X[:, [2, 0, 5, 3]])


def test_constant_images_are_counted(plate, tmp_path, caplog):
    Image.fromarray(np.full((20, 24), 7, np.uint16)).save(tmp_path / "p1" / "p1_B02_0_ER.png")
    run(plate[0], tmp_path)
    assert re.search(r"1 of 16 image\(s\) are constant: .*p1_B02_0_ER\.png", caplog.text)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.iloc[:0], ValueError, "the table of images is empty"),
        (lambda t: t.to_dict(), TypeError, "the table of images is a dict; pass a DataFrame or the path of a CSV file"),
        (lambda t: t.drop(columns="Metadata_Well"), KeyError, "well_keys Metadata_Well are not in the table, whose"),
        (lambda t: t[["Metadata_Plate", "Metadata_Well"]], KeyError, "the table has no column of images, FileName_"),
        (
            lambda t: t.assign(Metadata_Well=None),
            ValueError,
            "column 'Metadata_Well' has no value in 8 row(s): 0, 1, 2",
        ),
        (
            lambda t: t.assign(FileName_ER=["a.png", *[None] * 7]),
            ValueError,
            "column 'FileName_ER' has no value in 7 row",
        ),
        (lambda t: pd.concat([t, t[3:5]]), ValueError, "2 row(s) of the table repeat the files of another one: 3, 4"),
        (lambda t: t.assign(FileName_ER="a.npy"), ValueError, "2 file(s) are not .tif, .tiff, .png, .jpg, .jpeg: "),
        (
            lambda t: t.assign(PathName_ER="/data"),
            FileNotFoundError,
            "8 of 16 file(s) are missing: /data/p2_A01_0_ER.png",
        ),
    ],
)
def test_refuses_tables(plate, tmp_path, change, error, message):
    encoder = Brightness()
    with pytest.raises(error, match=re.escape(message)):
        run(change(plate[0].copy()), tmp_path, encoder=encoder)
    assert not encoder.calls


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": ["ER", "RNA"]}, KeyError, "channels RNA have no column FileName_<channel>; it has DNA, ER"),
        ({"channels": []}, KeyError, "the table has no column of images, FileName_<channel>; it has DNA, ER"),
        ({"obs": {"Metadata_cell": "cell"}}, KeyError, "obs names Metadata_cell, which the table does not have; its"),
        (
            {"obs": {"Metadata_Site": "s"}},
            ValueError,
            "column 'Metadata_Site' of obs has several values in 3 well(s): p1:B01",
        ),
        ({"encoder": ImageEncoder}, TypeError, "encoder is a type without encode(images); pass scl.encoders.ImageEnc"),
        ({"encoder": None}, TypeError, "encoder is a NoneType without encode(images)"),
        ({"key_added": "a/b"}, ValueError, "key_added='a/b' contains '/', which h5ad and zarr read as a folder"),
        (
            {"obs": {"Metadata_compound": "n_images"}},
            ValueError,
            "several columns of the wells would be called n_images; rename them otherwise",
        ),
        ({"n_sites": 0}, ValueError, "n_sites=0 must be at least 1"),
        ({"n_threads": 0}, ValueError, "n_threads=0 must be at least 1"),
    ],
)
def test_refuses_arguments(plate, tmp_path, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        run(plate[0], tmp_path, **arguments)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda file: file.write_bytes(b"no picture"),
            r"1 of 16 image\(s\) cannot be read: .*p1_B01_1_ER.png \(Unident",
        ),
        (
            lambda file: Image.fromarray(pixels(0, 20, 25)).save(file),
            r"1 site\(s\) .* different height and width: .*_DNA",
        ),
        (
            lambda file: Image.fromarray(pixels(0, 20, 24, 3, dtype=np.uint8)).save(file),
            r"1 image\(s\) have not as many channels as most \(1, 1\): .*p1_B01_1_ER.png \(3\); drop",
        ),
    ],
)
def test_refuses_files_before_anything_is_embedded(plate, tmp_path, spoil, message):
    spoil(tmp_path / "p1" / "p1_B01_1_ER.png")
    encoder = Brightness()
    with pytest.raises(ValueError, match=message):
        run(plate[0], tmp_path, encoder=encoder)
    assert not encoder.calls


def test_refuses_a_truncated_picture(plate, tmp_path):
    file = tmp_path / "p1" / "p1_B01_1_ER.png"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"p1_B01_1_ER.png cannot be read: .*; mend it or drop its row"):
        run(plate[0], tmp_path)


@pytest.mark.parametrize(
    ("values", "arguments", "page", "message"),
    [
        (
            pixels(0, 4, 20, 24),
            {"imagej": True, "metadata": {"axes": "ZYX"}},
            None,
            "it is a stack along Z; project it",
        ),
        (pixels(0, 4, 20, 24), {"photometric": "minisblack"}, 4, "it has pages 0 to 3"),
        (np.full((20, 24), np.nan, np.float32), {}, None, "a.tif holds NaN or infinite values; mend it"),
        (np.ones((20, 24), np.complex64), {}, None, "a.tif holds complex64 of shape"),
    ],
)
def test_refuses_tiff_files(tmp_path, values, arguments, page, message):
    tiff(tmp_path / "a.tif", values, **arguments)
    table = pd.DataFrame({"Metadata_Plate": ["p"], "Metadata_Well": "A", "FileName_a": "a.tif", "Frame_a": page})
    with pytest.raises(ValueError, match=message):
        run(table, tmp_path)


def test_errors_of_the_encoder_name_the_files(plate, tmp_path):
    network = nn.Conv2d(3, 4, 4)
    with pytest.raises(ValueError, match=r"2 channels, but the model takes 3(.|\n)*while embedding .*p1_B01_0_DNA.png"):
        run(plate[0], tmp_path, encoder=ImageEncoder(network, channels="joint", size=16, device="cpu"))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda x: np.ones(len(x)),
            r"the encoder returned shape \(3,\) for 3 images; \(n, d\) is needed. Their files: ",
        ),
        (lambda x: np.ones((len(x), 0)), r"the encoder returned shape \(3, 0\)"),
        (lambda x: np.ones((len(x), len(x))), r"the encoder returned shape \(2, 2\) for 2 images; \(n, 3\) is needed"),
        (
            lambda x: np.full((len(x), 2), np.nan),
            r"the embedding holds NaN or infinite values in 3 row.*p1_B01_0_DNA.p",
        ),
    ],
)
def test_refuses_what_an_encoder_returns(plate, tmp_path, returned, message):
    encoder = Brightness()
    encoder.encode = returned
    with pytest.raises(ValueError, match=message):
        run(plate[0], tmp_path, encoder=encoder, n_sites=3)


def test_refuses_a_picture_that_would_fill_the_memory(plate, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"16 of 16 image\(s\) cannot be read: .*exceeds limit of 200 pixels"):
        run(plate[0], tmp_path)
