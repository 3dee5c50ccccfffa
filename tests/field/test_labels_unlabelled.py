"""Labels that name nothing are never paired, unless an argument says that they are names."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"pair_on": "drug", "perturbation_key": "drug", "control": "dmso"}
NOTHING = ["nan", "NaN", "NA", "N/A", "n.a.", "None", "<NA>", "", " ", "unassigned", "Multiplet", "doublet", "UNKNOWN"]


@pytest.mark.parametrize("label", NOTHING)
def test_rows_without_a_label_are_not_paired_and_a_warning_counts_them(make_screen, warned, label):
    mdata = make_screen(["a", "b", label, label], ["b", label, "a", label, label])
    report = scl.pp.pair(mdata, **KEYS)
    assert report["drug"].tolist() == ["a", "b"]
    summary = report.attrs["summary"]
    assert (summary["student_kept"], summary["student_unlabelled"], summary["teacher_unlabelled"]) == (2, 2, 3)
    messages = warned()
    assert [f"{label!r} ({n} rows)" in text for text, n in zip(messages, (2, 3), strict=True)] == [True, True]
    assert all("unlabelled=()" in text for text in messages)
    table = scl.pp.check(mdata, **KEYS)
    nameless = table[table["check"] == "labels without a name"]
    assert nameless["modality"].tolist() == ["rna", "image"]
    assert [f"{n} rows" in text for text, n in zip(nameless["finding"], (2, 3), strict=True)] == [True, True]
    assert nameless["code"].tolist() == ["", ""]


def test_several_such_labels_are_counted_together(make_screen, warned):
    report = scl.pp.pair(make_screen(["a", "nan", "unknown", "NA"], ["a", "None"]), **KEYS)
    assert report.attrs["summary"]["student_unlabelled"] == 3
    assert report["drug"].tolist() == ["a"]
    assert len(warned()) == 2


def test_a_gene_of_such_a_name_is_paired_if_one_says_so(make_screen, warned):
    mdata = make_screen(["a", "NAN", "unassigned"], ["NAN", "a", "unassigned"])
    all_of_them = scl.pp.pair(mdata, **KEYS, unlabelled=())
    assert all_of_them["drug"].tolist() == ["NAN", "a", "unassigned"]
    assert warned() == []
    mine = scl.pp.pair(mdata, **KEYS, unlabelled=["Unassigned"])
    assert mine["drug"].tolist() == ["NAN", "a"]
    assert len(warned()) == 2
    other = scl.pp.pair(mdata, **KEYS, unlabelled="a")
    assert other["drug"].tolist() == ["NAN", "unassigned"]
    table = scl.pp.check(mdata, **KEYS, unlabelled=())
    assert "labels without a name" not in table["check"].tolist()


def test_controls_may_be_called_none(make_screen):
    mdata = make_screen(["a", "b", "None"], ["b", "a", "None"])
    report = scl.pp.pair(mdata, pair_on="drug", perturbation_key="drug", control=["dmso", "None"])
    assert report["drug"].tolist() == ["a", "b"]


def test_names_that_contain_such_a_label_and_numbers_are_names(make_screen):
    names = ["NANS", "unknown_7", "NAT1", "nan-1", "NA+a"]
    assert scl.pp.pair(make_screen(names, names), **KEYS)["drug"].tolist() == sorted(names)
    mdata = make_screen([1, 2], [2, 1])
    for adata in mdata.mod.values():
        adata.obs["drug"] = [0 if label == "dmso" else label for label in adata.obs["drug"]]
    assert len(scl.pp.pair(mdata, pair_on="drug", control=None)) == 3


@pytest.mark.parametrize(
    ("kind", "unlabelled"), [("int64", [-1]), ("float64", -1), ("int64", "-1"), ("category", [-1.0])]
)
def test_a_number_names_nothing_if_one_says_so(make_screen, warned, kind, unlabelled):
    mdata = make_screen([1, 2, -1, -1], [2, 1, -1])
    for adata in mdata.mod.values():
        numbers = [0 if label == "dmso" else label for label in adata.obs["drug"]]
        adata.obs["drug"] = np.array(numbers) if kind == "int64" else np.array(numbers, dtype="float64")
        adata.obs["drug"] = adata.obs["drug"].astype(kind)
    keys = {**KEYS, "control": 0}
    assert scl.pp.pair(mdata, **keys)["drug"].tolist() == [-1, 1, 2]
    assert warned() == []
    report = scl.pp.pair(mdata, **keys, unlabelled=unlabelled)
    assert report["drug"].tolist() == [1, 2]
    summary = report.attrs["summary"]
    assert (summary["student_unlabelled"], summary["teacher_unlabelled"]) == (2, 1)
    assert len(warned()) == 2


def test_beside_the_perturbation_only_what_pandas_writes_for_a_gap_is_none(make_screen, warned):
    """A second drug may be "None"; but a dose "nan" is a dose that nobody knows."""
    second = ["None", "None", "b", "b", "None", "None"]
    mdata = make_screen(["a", "c", "a", "c"], ["a", "c", "a", "c"], second=second)
    keys = {**KEYS, "pair_on": ["drug", "second"]}
    assert len(scl.pp.pair(mdata, **keys)) == 4
    for adata in mdata.mod.values():
        adata.obs["second"] = adata.obs["second"].replace("None", "nan")
    assert scl.pp.pair(mdata, **keys)["second"].tolist() == ["b", "b"]
    assert len(warned()) == 2


def test_missing_values_are_still_refused(make_screen, refuses):
    mdata = make_screen(["a", None], ["a", "b"])
    with refuses(errors.MissingValues, rows=["rna1"]):
        scl.pp.pair(mdata, **KEYS)


def test_nothing_else_to_pair_is_refused(make_screen, warned):
    with pytest.raises(errors.NothingShared):
        scl.pp.pair(make_screen(["nan"], ["nan"]), **KEYS)


@pytest.mark.parametrize("unlabelled", [None, ()])
def test_training_leaves_them_out_too(mdata, setup, warned, unlabelled):
    for adata in mdata.mod.values():
        names = adata.obs["perturbation"].astype(str)
        adata.obs["perturbation"] = names.where(~names.isin(["compound_03", "compound_11"]), "nan")
    n = int((mdata["rna"].obs["perturbation"] == "nan").sum())
    treated = int((mdata["rna"].obs["perturbation"] != "control").sum())
    model = scl.tl.distill(mdata, objective="cca", **setup, unlabelled=unlabelled)
    n_rows = len(model.train_indices) + len(model.validation_indices)
    assert n_rows == (treated - n if unlabelled is None else treated)
    assert n > 0
    assert any("are not paired" in text for text in warned()) == (unlabelled is None)
    assert model.design.unlabelled == unlabelled
    assert np.isfinite(mdata["rna"].obsm["X_cca"]).all()


def test_the_argument_is_saved_with_a_model(mdata, setup, tmp_path, warned):
    model = scl.tl.distill(mdata, objective="cca", **setup, unlabelled=["unknown"], separator="+")
    model.save(tmp_path / "model")
    loaded = scl.model.Baseline.load(tmp_path / "model", mdata)
    assert (loaded.design.unlabelled, loaded.design.separator) == (("unknown",), "+")


@pytest.mark.parametrize("measure", ["replicate_retrieval", "recall"])
def test_what_looks_at_one_modality_warns_that_they_count_as_replicates(small_study, warned, measure):
    adata = small_study.knockouts["image"].copy()
    names = {"gene_00": "unassigned", "gene_05": "NA"}
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(names)
    columns = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    if measure == "recall":
        columns |= {"relationships": small_study.relationships, "n_permutations": 0}
    getattr(scl.tl, measure)(adata, **columns)
    (message,) = warned()
    n = [(adata.obs["perturbation"] == name).sum() for name in ("NA", "unassigned")]
    assert message.startswith(f"{sum(n)} rows have a label that names nothing, and count as rows of one perturbation: ")
    assert f": 'NA' ({n[0]} rows), 'unassigned' ({n[1]} rows); " in message
    kept = eval(message.partition("with ")[2], {"adata": adata})
    assert not {"NA", "unassigned"} & {*kept.obs["perturbation"]}
    getattr(scl.tl, measure)(kept, **columns)
    assert warned() == []


@pytest.mark.parametrize("function", ["nearest", "null_overlap", "relationship_sets", "report"])
def test_one_call_warns_once_of_one_table(small_study, warned, tmp_path, function):
    adata = small_study.knockouts["image"].copy()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({"gene_00": "NA"})
    adata.obsm["X_other"] = adata.obsm["X_image"][:, ::-1].copy()
    columns = {"perturbation_key": "perturbation", "control": "control", "relationships": small_study.relationships}
    other = adata[adata.obs["perturbation"] != "gene_01"].copy()
    other.obs["perturbation"] = other.obs["perturbation"].replace({"gene_02": "unknown"})
    options = {"n_permutations": 1, "progress_bar": False, "references": {"X_other": adata, "X_image": other}}
    if function == "relationship_sets":
        scl.tl.relationship_sets(adata, use_rep="X_image", references={"X_other": adata}, **columns)
    elif function == "report":
        options = {"n_permutations": 100, "progress_bar": False}
        scl.report(adata, tmp_path / "page.html", use_rep=["X_image", "X_other"], **columns, **options)
    else:
        getattr(scl.tl, function)(adata, use_rep="X_image", **columns, **options)
    told = [re.search("perturbation: (.*?) \\(", message)[1] for message in warned()]
    assert told == (["'NA'"] * 2 if function in ("nearest", "null_overlap") else ["'NA'"])  # other rows are told too


# what they need beside representations, columns and relationships
ON_MAPS = {
    "recall": {"n_permutations": 10, "rng": 0, "progress_bar": False},
    "similarity": {"n_bins": 4},
    "null_overlap": {"references": "X_other", "n_permutations": 2, "rng": 0, "progress_bar": False},
    "relationship_sets": {},
    "nearest": {"references": "X_other", "n_permutations": 2, "rng": 0, "progress_bar": False},
}


@pytest.fixture
def on_map(small_study):
    """Arguments of functions of annotated genes, one of which is called NA."""
    adata = small_study.knockouts["image"].copy()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({"gene_00": "NA"})
    adata.obsm["X_other"] = adata.obsm["X_image"][:, ::-1].copy()
    columns = {"perturbation_key": "perturbation", "control": "control", "relationships": small_study.relationships}
    return adata, {"use_rep": "X_image", **columns}


def list_counted(adata, messages):
    """Return the labels that each warning counts, having checked its numbers of rows."""
    counted = []
    for message in messages:
        rows = dict(re.findall(r"'([^']*)' \((\d+) rows\)", message))
        assert {label: int(n) for label, n in rows.items()} == {
            label: (adata.obs["perturbation"] == label).sum() for label in rows
        }
        counted.append([*rows])
    return counted


@pytest.mark.parametrize(
    ("unlabelled", "counted"),
    [
        (None, [["NA"]]),
        ((), []),
        ("gene_01", [["gene_01"]]),
        (["GENE_01 ", "na", "absent"], [["NA", "gene_01"]]),
    ],
)
@pytest.mark.parametrize("function", ON_MAPS)
def test_what_looks_at_a_map_of_genes_is_told_which_labels_are_none(on_map, warned, function, unlabelled, counted):
    adata, arguments = on_map
    judge = getattr(scl.tl, function)
    by_default = judge(adata, **arguments, **ON_MAPS[function])
    assert list_counted(adata, warned()) == [["NA"]]
    table = judge(adata, **arguments, **ON_MAPS[function], unlabelled=unlabelled)
    assert list_counted(adata, warned()) == counted
    pd.testing.assert_frame_equal(table, by_default)  # the rows stay, whatever their label


@pytest.mark.parametrize(("unlabelled", "counted"), [((), []), (["gene_01"], [["gene_01"]])])
def test_a_report_is_told_too_and_its_page_stays_the_same(on_map, warned, tmp_path, unlabelled, counted):
    adata, arguments = on_map
    options = {**arguments, "n_permutations": 100, "rng": 0, "progress_bar": False}
    by_default = scl.report(adata, tmp_path / "default.html", **options)
    assert list_counted(adata, warned()) == [["NA"]]
    page = scl.report(adata, tmp_path / "page.html", **options, unlabelled=unlabelled)
    assert list_counted(adata, warned()) == counted
    one, two = (re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", path.read_text("utf-8")) for path in (by_default, page))
    assert one == two


@pytest.mark.parametrize("function", ["null_overlap", "relationship_sets", "nearest"])
def test_other_objects_have_the_same_labels_that_are_none(on_map, warned, function):
    adata, arguments = on_map
    other = adata[adata.obs["perturbation"] != "gene_05"].copy()
    other.obs["perturbation"] = other.obs["perturbation"].replace({"gene_01": "unknown"})
    options = {**ON_MAPS[function], "references": {"X_other": other}}
    getattr(scl.tl, function)(adata, **arguments, **options)
    messages = warned()
    assert [*list_counted(adata, messages[:1]), *list_counted(other, messages[1:])] == [["NA"], ["NA", "unknown"]]
    getattr(scl.tl, function)(adata, **arguments, **options, unlabelled=["unknown"])
    assert list_counted(other, warned()) == [["unknown"]]
    getattr(scl.tl, function)(adata, **arguments, **options, unlabelled=())
    assert warned() == []
