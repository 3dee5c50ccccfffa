"""Identifiers with a batch or a version behind them are found where the other modality has them without."""

from __future__ import annotations

import pytest

import semiclip as scl

KEYS = {"pair_on": "drug", "perturbation_key": "drug", "control": "dmso"}

SHORT = [f"BRD-K{12345678 + i}" for i in range(4)]
LONG = [f"{name}-00{i}-0{i + 1}-{i}" for i, name in enumerate(SHORT)]


def find(mdata):
    table = scl.pp.check(mdata, **KEYS)
    return table[table["check"] == "longer names"]


@pytest.mark.parametrize("swapped", [False, True])
def test_ids_of_22_characters_are_cut_to_13(make_screen, swapped):
    mdata = make_screen(SHORT, LONG) if swapped else make_screen(LONG, SHORT)
    (row,) = find(mdata).itertuples()
    assert row.modality == ("image" if swapped else "rna")
    assert f"'{LONG[0]}' and '{SHORT[0]}'" in row.finding
    assert row.finding.startswith("4 name(s)")
    exec(row.code, {"mdata": mdata})
    assert scl.pp.pair(mdata, **KEYS).attrs["summary"]["shared_keys"] == 4
    assert find(mdata).empty


def test_versions_of_genes_are_cut(make_screen):
    mdata = make_screen(["ENSG00000141510.18", "a"], ["ENSG00000141510", "a"])
    exec(find(mdata)["code"].item(), {"mdata": mdata})
    assert mdata["rna"].obs["drug"].tolist()[:2] == ["ENSG00000141510", "a"]


def test_other_names_that_go_on_are_told_and_left(make_screen):
    mdata = make_screen(["TP53_guide1", "TP53_guide2", "EGFR", "KRAS-G12D"], ["TP53", "EGFR", "KRAS-G12D", "KRAS"])
    (row,) = find(mdata).itertuples()
    assert row.finding.startswith("2 name(s)")
    assert row.code == ""


def test_names_that_are_numbers_or_do_not_go_on_are_no_longer_names(make_screen):
    assert find(make_screen(["7157.0", "CD4+", "TP53", "x"], ["7157", "CD4", "TP", "y"])).empty


@pytest.mark.parametrize(
    ("rna", "image", "short"),
    [
        ("BRD-K12345678-001-01-1", "BRD-K12345678-001-05-9", "BRD-K12345678"),
        ("ENSG00000141510.1", "ENSG00000141510.7", "ENSG00000141510"),
    ],
)
def test_batches_and_versions_of_both_are_cut_in_both(make_screen, rna, image, short):
    same = "BRD-K87654321-001-01-1"  # pairs as it is
    mdata = make_screen([rna, same], [image, same])
    rows = find(mdata)
    assert rows["modality"].tolist() == ["rna", "image"]
    assert (
        f"1 name(s) in obs['drug'] are names of the other modality with another end: '{rna}' and '{image}'"
        in (rows["finding"].iloc[0])
    )
    for codes in (rows["code"], rows["code"].iloc[::-1]):  # in any order, and again
        for code in codes:
            exec(code, {"mdata": mdata})
    assert scl.pp.pair(mdata, **KEYS)["drug"].tolist() == sorted([short, same])
    assert find(mdata).empty


def test_one_batch_alone_may_be_cut_first(make_screen):
    mdata = make_screen([LONG[0]], [f"{SHORT[0]}-001-05-9"])
    exec(find(mdata)["code"].iloc[1], {"mdata": mdata})
    (row,) = find(mdata).itertuples()
    assert row.modality == "rna"
    exec(row.code, {"mdata": mdata})
    assert scl.pp.pair(mdata, **KEYS)["drug"].tolist() == SHORT[:1]


def test_many_names_with_underscores_are_no_combinations(make_screen):
    names = [f"gene_{i}" for i in range(12_000)]
    mdata = make_screen([*names, "a+b"], [*names, "b+a"])
    assert scl.pp.check(mdata, **KEYS)["check"].tolist() == ["combinations"]
