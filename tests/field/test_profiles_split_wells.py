"""Plates of several cell lines, time points or batches have the same names, so that their wells are pooled."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import semiclip as scl
from semiclip import errors

KEYS = {"perturbation_key": "drug", "control": "DMSO", "clip": None}
WELLS = ["A01", "A02", "A03", "A04", "B01", "B02", "B03", "B04"]
DRUGS = ["DMSO"] * 6 + ["taxol"] * 2


def make_line(line, effect, column="Metadata_cell_line"):
    """One plate, p1, of a line in which the drug moves all features by ``effect``."""
    seed = {"A549": 0, "U2OS": 1}.get(line, 2)
    values = np.random.default_rng(seed).normal(size=(8, 3)) + effect * (np.array(DRUGS) == "taxol")[:, None]
    table = pd.DataFrame({"Metadata_Plate": "p1", "Metadata_Well": WELLS, "Metadata_drug": DRUGS, column: line})
    return table.join(pd.DataFrame(values, columns=["Cells_Area", "Cells_Texture", "Nuclei_Area"]))


def size(images):
    return float(np.linalg.norm(images[images.obs["drug"] == "taxol"].X.mean(axis=0)))


@pytest.mark.parametrize("plate", ["p1", 41744, 41744.0, "category"])
def test_a_drug_with_opposite_effects_in_two_lines_is_not_lost_without_a_word(warned, plate):
    lines = [make_line("A549", 20.0), make_line("U2OS", -20.0)]
    for table in lines:
        table["Metadata_Plate"] = table["Metadata_Plate"].astype(plate) if plate == "category" else plate
    alone = [size(scl.io.profiles(table, **KEYS)) for table in lines]
    assert not warned()
    table = pd.concat(lines, ignore_index=True)
    pooled = scl.io.profiles(table, **KEYS)
    (message,) = warned()
    name = "p1" if isinstance(plate, str) else "41744"
    assert f"8 well(s), such as {name}:A01 and {name}:A02, have rows that differ in cell_line," in message
    assert size(pooled) < 0.3 * min(alone)
    # what the message says mends it
    exec(message.split("name them apart: ")[1].split(";")[0], {"table": table})
    apart = scl.io.profiles(table, **KEYS)
    assert not warned()
    assert apart.n_obs == 16
    for line, expected in zip(["A549", "U2OS"], alone, strict=True):
        assert size(apart[apart.obs["cell_line"] == line]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("column", "values"),
    [("Metadata_timepoint", [24, 48]), ("Metadata_Batch", ["b1", "b2"]), ("Metadata_dose_uM", [0.1, 10.0])],
)
def test_any_column_that_splits_wells_is_named(warned, column, values):
    table = pd.concat([make_line(value, 1.0, column) for value in values], ignore_index=True)
    scl.io.profiles(table, **KEYS)
    (message,) = warned()
    assert f"differ in {column.removeprefix('Metadata_')}," in message
    assert f"table['Metadata_Plate'].astype(str) + ' ' + table['{column}'].astype(str)" in message


@pytest.mark.parametrize(
    "column", ["Metadata_Site", "Metadata_Field_of_view", "Metadata_ImageNumber", "Metadata_CellID", "Metadata_File"]
)
def test_columns_that_number_the_parts_of_a_well_are_no_trouble(warned, caplog, column):
    table = pd.concat([make_line(value, 1.0, column) for value in (1, 2, 3)], ignore_index=True)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles(table, **KEYS)
    assert not warned()
    assert images.obs["n_rows"].tolist() == [3] * 8
    assert f"column(s) that differ within wells go: {column.removeprefix('Metadata_')}" in caplog.messages


def test_values_of_one_well_alone_and_gaps_are_no_trouble(warned):
    table = pd.concat([make_line("A549", 1.0)] * 2, ignore_index=True)
    table["Metadata_Temperature"] = np.linspace(36.9, 37.1, 16)
    table["Metadata_note"] = ["checked"] * 5 + [None] * 11
    images = scl.io.profiles(table, **KEYS)
    assert not warned()
    assert images.obs.columns.tolist() == ["Plate", "Well", "drug", "cell_line", "n_rows"]


class Brightness:
    def encode(self, images):
        return images.mean((2, 3))


def test_sites_of_two_cell_lines_are_told_too(warned, tmp_path: Path):
    rows = []
    for line, grey in {"A549": 10, "U2OS": 90}.items():
        for well in ("A01", "A02"):
            name = f"{line}_{well}.png"
            Image.fromarray(np.uint8([[grey, grey + 1]])).save(tmp_path / name)
            rows.append(["p1", well, line, name])
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_cell_line", "FileName_DNA"])
    pooled = scl.io.images(table, encoder=Brightness(), folder=tmp_path, progress_bar=False)
    assert pooled.X.ravel().tolist() == [50.5, 50.5]
    (message,) = warned()
    assert "differ in Metadata_cell_line," in message
    table["Metadata_Plate"] += " " + table["Metadata_cell_line"]
    apart = scl.io.images(table, encoder=Brightness(), folder=tmp_path, progress_bar=False)
    assert not warned()
    assert dict(zip(apart.obs_names, apart.X.ravel().tolist(), strict=True)) == {
        "p1 A549:A01": 10.5, "p1 A549:A02": 10.5, "p1 U2OS:A01": 90.5, "p1 U2OS:A02": 90.5,
    }  # fmt: skip


def test_several_columns_of_plates_are_refused_with_a_way_out(refuses):
    with refuses(errors.WrongType, name="batch_key", got=list):
        scl.io.profiles(make_line("A549", 1.0), **KEYS, batch_key=["Plate", "cell_line"])
