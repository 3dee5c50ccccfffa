"""The page on real tables shows what the package says: each of its messages is made here, in the same order."""

import logging
import re
import struct
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import semiclip as scl
from semiclip import errors

PAGE = Path(__file__).parents[2] / "docs" / "real_tables.md"
KEYS = {"perturbation_key": "drug", "control": "DMSO"}


class Brightness:
    def encode(self, images):
        return images.mean((2, 3))


@pytest.fixture
def say(caplog):
    """Run something and return the warnings, log lines with these words, or the error that come of it."""

    def run(work, words=None):
        caplog.clear()
        with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.INFO, logger="semiclip"):
            warnings.simplefilter("always", errors.SemiclipWarning)
            try:
                work()
            except errors.SemiclipError as error:
                return [str(error)]
        if words is not None:
            return [line for line in caplog.messages if words in line]
        return [str(warning.message) for warning in caught]

    return run


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    drug = ["DMSO"] * 6 + ["taxol"] * 2
    described = {"Metadata_Plate": "p1", "Metadata_Well": [f"A{i}" for i in range(1, 9)], "Metadata_drug": drug}
    names = ["Cells_AreaShape_Area", "Nuclei_AreaShape_Area"]
    return pd.DataFrame(described).join(pd.DataFrame(rng.normal(10, 3, (8, 2)), columns=names))


def make_profiles(say, table):
    lines = pd.concat([table.assign(Metadata_cell_line=line) for line in ("A549", "U2OS")], ignore_index=True)
    yield say(lambda: scl.io.profiles(lines, **KEYS))
    mixed = table.astype({"Cells_AreaShape_Area": object})
    mixed.loc[3, "Cells_AreaShape_Area"] = "failed"
    yield say(lambda: scl.io.profiles(mixed, **KEYS), "text")
    text = table.assign(Cells_AreaShape_Area="high", Nuclei_AreaShape_Area="low")
    yield say(lambda: scl.io.profiles(text, **KEYS))
    gaps = table.assign(Cells_AreaShape_Area=np.nan, Nuclei_AreaShape_Area=np.nan)
    yield say(lambda: scl.io.profiles(gaps, **KEYS))
    noise = np.where(table["Metadata_drug"] == "DMSO", 1e-17 * np.arange(8), 0.004)
    yield say(lambda: scl.io.profiles(table.assign(Cells_Texture_Variance=noise), **KEYS), "millionth")
    places = {"Nuclei_Location_Center_X": np.arange(8.0), "Nuclei_Number_Object_Number": range(8)}
    yield say(lambda: scl.io.profiles(table.assign(**places), **KEYS), "positions")
    table.iloc[:0].to_csv("plate_7.csv", index=False)
    yield say(lambda: scl.io.profiles("plate_7.csv", **KEYS))


def make_images(say):
    rows = []
    for i, well in enumerate(("A01", "A02")):
        names = [f"{well}_{channel}.png" for channel in ("DNA", "ER")]
        for j, name in enumerate(names):
            Image.fromarray(np.uint8([[20 * i + j, 20 * i + j + 2]])).save(name)
        rows.append(["p1", well, *names])
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "FileName_DNA", "FileName_ER"])

    def read(table):
        scl.io.images(table, encoder=Brightness(), progress_bar=False)

    yield say(lambda: read(table.assign(FileName_ER=["A01_DNA.png", "A02_ER.png"])))
    yield say(lambda: read(table.assign(FileName_DNA="A01_DNA.png")))
    tifffile = pytest.importorskip("tifffile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tifffile.tifffile, "imagecodecs", pytest.importorskip("tifffile._imagecodecs"))
        for codecs in (tifffile.TIFF.DECOMPRESSORS, tifffile.TIFF.UNPREDICTORS):
            patch.setattr(codecs, "_codecs", {1: tifffile.tifffile.identityfunc})
        Path("A01_DNA.tif").write_bytes(make_lzw())
        yield say(lambda: read(table[:1].drop(columns="FileName_ER").assign(FileName_DNA="A01_DNA.tif")))
    with tifffile.TiffWriter("A01_DNA.ome.tif", ome=True) as file:
        for i in range(2):
            file.write(np.full((4, 4), i, np.uint16), photometric="minisblack")
    yield say(lambda: read(table[:1].assign(FileName_DNA="A01_DNA.ome.tif")))
    adata = anndata.AnnData(np.ones((1, 1), np.float32), obs=pd.DataFrame({"Metadata_Well": ["A01"]}, index=["x"]))
    yield say(lambda: scl.pl.plate(adata, color="drug", perturbation_key=None, control=None))


def make_labels(say, make_screen):
    keys = {"pair_on": "drug", "perturbation_key": "drug", "control": "dmso"}

    def find(check, mdata, **options):
        table = scl.pp.check(mdata, **keys | options)
        return table.loc[table["check"] == check, "finding"].tolist()

    yield find("blanks", make_screen(["a", "b", "dmso "], ["a", "b"]))
    nameless = make_screen(["a", "b", "nan", "nan"], ["a", "b"])
    yield say(lambda: scl.pp.pair(nameless, **keys))
    yield find("combinations", make_screen(["a+b", "c"], ["b+a", "c"]))
    yield find("longer names", make_screen(["BRD-K12345678-001-01-1", "c"], ["BRD-K12345678", "c"]))
    doses = make_screen(["a", "b"], ["a", "b"], dose=["0.1 uM", "100 nM", "0 uM", "0 uM"])
    yield find("units in text", doses, pair_on=["drug", "dose"])
    other = make_screen(["drug 1"] * 4 + ["drug 2"] * 3 + ["solvent"] * 2 + ["empty"], ["drug 1"])
    other.mod["rna"] = other["rna"][:-2].copy()
    yield find("control names", other)
    genes = [f"G{i:02}" for i in range(20)]
    annotated = pd.DataFrame({"gene_a": ["G00", "G01"], "gene_b": ["G01", "g02 "]})
    embedding = np.random.default_rng(0).normal(size=(20, 4))
    yield say(lambda: scl.metrics.relationship_recall(embedding, genes, annotated, n_permutations=0))


def make_lzw():
    """Return a TIFF file of one pixel in 32 bits, compressed by LZW."""
    tags = {256: 1, 257: 1, 258: 32, 259: 5, 262: 1, 273: 8, 277: 1, 278: 1, 279: 7}
    codes = "".join(f"{code:09b}" for code in (256, 1, 2, 3, 255, 257)) + "00"
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = int(codes, 2).to_bytes(7, "big") + b"\0"
    return b"II*\0" + struct.pack("<I", 16) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def test_each_message_of_the_page_is_what_the_package_says(say, table, make_screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages = [*make_profiles(say, table), *make_images(say), *make_labels(say, make_screen)]
    assert [len(found) for found in messages] == [1] * len(messages), messages
    made = [found[0] for found in messages]
    if not PAGE.is_file():
        pytest.skip("the pages are not there")
    shown = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [" ".join(block.split()) for block in shown] == [" ".join(message.split()) for message in made]
