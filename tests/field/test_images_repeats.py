"""A file that is named for two channels or two wells: a slip of whoever wrote the table, embedded as if it were two."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import semiclip as scl
from semiclip import errors


class Brightness:
    def encode(self, images):
        return images.mean((2, 3))


@pytest.fixture
def table(tmp_path):
    rows = []
    for i, well in enumerate(("A01", "A02", "A03")):
        names = [f"{well}_{channel}.png" for channel in ("DNA", "ER")]
        for j, name in enumerate(names):
            Image.fromarray(np.uint8([[20 * i + j, 20 * i + j + 2]])).save(tmp_path / name)
        rows.append(["p1", well, *names])
    return pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "FileName_DNA", "FileName_ER"])


def run(table, tmp_path):
    return scl.io.images(table, encoder=Brightness(), folder=tmp_path, progress_bar=False)


def test_each_file_once_is_read_as_before(table, tmp_path):
    assert run(table, tmp_path).X.tolist() == [[1, 2], [21, 22], [41, 42]]


@pytest.mark.parametrize("spelt", ["A02_DNA.png", "./A02_DNA.png", "x/../A02_DNA.png"])
def test_one_file_for_two_channels_is_refused(refuses, table, tmp_path, spelt):
    table.loc[1, "FileName_ER"] = spelt
    with refuses(errors.Refused, items=[f"{tmp_path / 'A02_DNA.png'} (DNA of p1:A02, ER of p1:A02)"]):
        run(table, tmp_path)


def test_one_file_for_two_wells_is_refused_and_all_are_named(refuses, table, tmp_path):
    table.loc[2, "FileName_ER"] = "A01_ER.png"
    table.loc[1, "FileName_DNA"] = "A01_DNA.png"
    names = [f"{tmp_path / f'A01_{channel}.png'} ({channel} of p1:A01, {channel} of p1:A0{i})"
             for channel, i in {"DNA": 2, "ER": 3}.items()]  # fmt: skip
    with refuses(errors.Refused, items=names):
        run(table, tmp_path)


def test_one_file_of_the_only_channel_for_two_wells_is_no_row_to_drop(refuses, table, tmp_path):
    table = table.drop(columns="FileName_ER")
    table.loc[1, "FileName_DNA"] = "A01_DNA.png"
    with refuses(errors.Refused, items=[f"{tmp_path / 'A01_DNA.png'} (DNA of p1:A01, DNA of p1:A02)"]):
        run(table, tmp_path)
    with refuses(errors.Repeated, items=[2]):  # within a well it is
        run(table.iloc[[0, 2, 0]], tmp_path)


def test_pages_of_one_file_are_apart_and_all_of_them_beside_one_are_not(refuses, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.arange(16, dtype=np.uint16).reshape(4, 2, 2)
    tifffile.imwrite(tmp_path / "plate.tif", values, photometric="minisblack")
    columns = {"Metadata_Plate": "p1", "Metadata_Well": ["A01", "A02"]}
    columns |= dict.fromkeys(["FileName_DNA", "FileName_ER"], "plate.tif")
    pages = pd.DataFrame({**columns, "Frame_DNA": [0, 2], "Frame_ER": [1, 3]})
    assert run(pages, tmp_path).X.tolist() == [[1.5, 5.5], [9.5, 13.5]]
    path = tmp_path / "plate.tif"
    with refuses(errors.Refused, items=[f"{path} (page 3) (DNA of p1:A02, ER of p1:A02)"]):
        run(pages.assign(Frame_DNA=[0, 3]), tmp_path)
    with refuses(errors.Refused, items=[f"{path} (DNA of p1:A01, DNA of p1:A02, ER of p1:A01, … (4 in all))"]):
        run(pages.assign(Frame_DNA=None), tmp_path)
