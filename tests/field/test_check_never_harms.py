"""What `check` says to run drops no row, does nothing twice, and comes in any order; words are never run."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import semiclip as scl

COLUMNS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
KEYS = {"pair_on": ["perturbation", "dose"], "well_key": "well", **COLUMNS}
SIZES = {"n_compounds": 12, "n_knockouts": 20, "n_pathways": 4, "n_genes": 30, "n_image_features": 6, "n_batches": 3}


@pytest.fixture(scope="module")
def clean():
    mdata = scl.datasets.simulate(**SIZES, n_controls=4, rng=0).mdata
    for adata in mdata.mod.values():
        order = pd.Series(np.random.default_rng(1).random(adata.n_obs), adata.obs_names)
        adata.obs["well"] = [f"A{n:02.0f}" for n in order.groupby(adata.obs["batch"], observed=True).rank()]
        for key in ("perturbation", "batch"):
            adata.obs[key] = adata.obs[key].astype(str)
    return mdata


@pytest.fixture
def mdata(clean):
    return clean.copy()


def run(mdata, codes):
    for code in codes:
        exec(code, {"mdata": mdata})


def follow(mdata, **change):
    """Run all code until nothing new is found, as the docstring of `check` says."""
    done = None
    for _ in range(9):
        table = scl.pp.check(mdata, **{**KEYS, **change})
        if (codes := table["code"].tolist()) == done:
            return table
        run(mdata, codes)
        done = codes
    raise AssertionError(f"no end: {codes}")


def frames(mdata):
    return {name: adata.obs.copy() for name, adata in mdata.mod.items()}


def same(mdata, obs):
    for name, adata in mdata.mod.items():
        pd.testing.assert_frame_equal(adata.obs, obs[name], check_dtype=False, check_categorical=False)


def edit(mdata, name, key, change, rows=slice(None)):
    obs = mdata[name].obs
    column = obs[key].astype(object).copy()
    column.loc[obs.index[rows]] = [change(value) for value in column.loc[obs.index[rows]]]
    obs[key] = column.infer_objects()


@pytest.mark.parametrize("written", ["control ", " control", "control\u00a0", "\ufeffcontrol", "control\t", "Control"])
def test_controls_of_one_batch_that_are_spelt_otherwise_cost_no_row(mdata, written):
    before, obs = frames(mdata), mdata["rna"].obs
    rows = ((obs["perturbation"] == "control") & (obs["batch"] == "rna_batch_1")).to_numpy()
    assert rows.sum() == 4
    edit(mdata, "rna", "perturbation", lambda label: written, rows)
    table = scl.pp.check(mdata, **KEYS)
    assert table["severity"].tolist() == ["error", "error"]
    kind = "control names" if written == "Control" else "blanks"
    assert table["check"].tolist() in ([kind, "few controls"], ["few controls", kind])
    few = table[table["check"] == "few controls"].iloc[0]
    assert few["code"] == ""
    assert f"{written!r} (4)" in few["finding"]
    assert "subset" not in few["mend"] and "copy()" not in few["mend"]
    if kind == "blanks":  # labels first, and blanks are seen
        assert table["check"][0] == "blanks"
        assert f"{written!r} (4 rows)" in table["finding"][0]
    assert follow(mdata).empty
    same(mdata, before)


@pytest.mark.parametrize("written", ["contrl", "cntrol", "K-", "vehicle", "neg-con"])
def test_a_batch_whose_controls_have_a_strange_label_is_not_to_be_dropped_before_one_has_looked(mdata, written):
    obs = mdata["rna"].obs
    rows = ((obs["perturbation"] == "control") & (obs["batch"] == "rna_batch_1")).to_numpy()
    edit(mdata, "rna", "perturbation", lambda label: written, rows)
    table = scl.pp.check(mdata, **KEYS)
    few = table[table["check"] == "few controls"].iloc[0]
    assert f"{written!r} (4)" in few["finding"]
    assert "copy()" not in few["mend"]
    follow(mdata)
    assert mdata["rna"].n_obs == len(obs)


def test_blanks_within_perturbations_doses_batches_and_wells(mdata):
    before = frames(mdata)
    edit(mdata, "rna", "perturbation", lambda label: label + "  ", slice(0, 40, 3))
    edit(mdata, "rna", "batch", lambda label: " " + label, slice(0, 40, 2))
    edit(mdata, "image", "well", lambda label: label + "\n", slice(5, 9))
    edit(mdata, "image", "perturbation", lambda label: "\u200b" + label, slice(5, 50))
    table = scl.pp.check(mdata, **KEYS)
    assert (table["check"] == "blanks").sum() == 4
    assert follow(mdata).empty
    same(mdata, before)


# ---- each code alone, in any order, and again

PLATES = {"rna": "rna_batch_1", "image": "image_batch_1"}


def break_units(mdata):
    mdata["image"].obs["dose"] *= 1000


def break_text_doses(mdata):
    mdata["rna"].obs["dose"] = [f"{dose * 1000:g} nM" for dose in mdata["rna"].obs["dose"]]


def break_rounding(mdata):
    mdata["image"].obs["dose"] *= 1.01


def break_missing_doses(mdata):
    obs = mdata["rna"].obs
    obs["dose"] = obs["dose"].where(obs["perturbation"] != "control")


def break_controls(mdata):
    edit(mdata, "image", "perturbation", lambda label: "Control" if label == "control" else label)


def break_spelling(mdata):
    edit(mdata, "image", "perturbation", lambda label: label.replace("compound_", "Compound "))


def break_blanks(mdata):
    edit(mdata, "rna", "perturbation", lambda label: f"{label} ", slice(0, None, 4))


def break_combinations(mdata):
    edit(mdata, "rna", "perturbation", lambda label: "a+b" if label == "compound_01" else label)
    edit(mdata, "image", "perturbation", lambda label: "b+a" if label == "compound_01" else label)


def break_broad_ids(mdata):
    number = {f"compound_{i:02}": f"BRD-K{12345678 + i}" for i in range(12)}
    edit(mdata, "image", "perturbation", lambda label: number.get(label, label))
    edit(mdata, "rna", "perturbation", lambda label: number[label] + "-001-01-1" if label in number else label)


def break_plate_names(mdata):
    obs = mdata["image"].obs
    obs["run"], obs["batch"] = obs["batch"].str[-1], "plate 1"


def break_batch_names(mdata):
    mdata["image"].obs["batch"] = mdata["image"].obs["batch"].str.replace("image", "rna")


def break_sample_names(mdata):
    mdata["image"].obs_names = mdata["rna"].obs_names[: mdata["image"].n_obs]


def break_genes(mdata):
    adata = mdata["rna"]
    adata.var["gene_symbols"] = adata.var_names
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]


def break_embedding(mdata):
    mdata["image"].X = sparse.csr_matrix(mdata["image"].obsm.pop("X_image"))


def break_columns(mdata):
    mdata["rna"].obs = pd.concat([mdata["rna"].obs, mdata["rna"].obs[["dose"]]], axis=1)


BROKEN = {name.removeprefix("break_"): plant for name, plant in globals().items() if name.startswith("break_")}


@pytest.mark.parametrize("name", BROKEN)
def test_code_mends_once_and_does_nothing_when_run_again(mdata, name):
    n_rows = {name: adata.n_obs for name, adata in mdata.mod.items()}
    BROKEN[name](mdata)
    table = scl.pp.check(mdata, **KEYS)
    assert table["code"].str.len().max() > 0
    run(mdata, table["code"])
    once = frames(mdata)
    run(mdata, [*table["code"], *table["code"]])
    same(mdata, once)
    assert follow(mdata).empty
    assert {name: adata.n_obs for name, adata in mdata.mod.items()} == n_rows


@pytest.mark.parametrize(
    "names",
    [
        ("units", "spelling", "controls"),
        ("missing_doses", "blanks", "batch_names"),
        ("plate_names", "sample_names", "combinations"),
        ("text_doses", "broad_ids", "blanks"),
        ("genes", "rounding", "embedding"),
    ],
)
def test_code_in_any_order_ends_alike(clean, names):
    ends = []
    broken = clean.copy()
    for name in names:
        BROKEN[name](broken)
    codes = [code for code in scl.pp.check(broken, **KEYS)["code"] if code]
    assert 2 <= len(codes) <= 5
    for order in itertools.islice(itertools.permutations(codes), 0, None, 5):
        mdata = broken.copy()
        run(mdata, order)
        assert follow(mdata).empty
        ends.append(frames(mdata))
    for end in ends[1:]:
        for name, obs in end.items():
            pd.testing.assert_frame_equal(obs, ends[0][name])
    for code in codes:  # one alone
        mdata = broken.copy()
        run(mdata, [code])
        assert len(scl.pp.check(mdata, **KEYS)) < len(scl.pp.check(broken, **KEYS)) + 1
        assert {name: adata.n_obs for name, adata in mdata.mod.items()} == {n: a.n_obs for n, a in clean.mod.items()}


def is_python(text):
    try:
        compile(text, "mend", "exec")
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("name", [*BROKEN, "rows", "nothing"])
def test_words_are_no_code_and_code_is(mdata, name):
    """Who still runs the column `mend` gets a SyntaxError at the first line, before anything is changed."""
    if name in BROKEN:
        BROKEN[name](mdata)
    elif name == "rows":
        mdata["rna"].X[:2], mdata["image"].obsm["X_image"][3] = 0, np.nan
        edit(mdata, "image", "perturbation", lambda label: "control", slice(None))
        edit(mdata, "rna", "batch", lambda label: "lonely", slice(0, 2))
        edit(mdata, "rna", "perturbation", lambda label: "nan", slice(0, 2))
    table = scl.pp.check(mdata, **KEYS)
    assert not any(map(is_python, table["mend"]))
    assert all(map(is_python, table["code"]))
    assert not table["code"].str.contains(r"\.mod\[|\.drop|\.copy\(\); mdata").any()


# ---- what training would refuse


def test_a_teacher_in_x_is_copied_to_where_training_reads_it(mdata):
    expected = mdata["image"].obsm["X_image"].copy()
    break_embedding(mdata)
    table = scl.pp.check(mdata, **KEYS)
    assert list(zip(table["severity"], table["check"], table["modality"], strict=True)) == [
        ("error", "no embedding", "image")
    ]
    assert follow(mdata).empty
    np.testing.assert_array_equal(mdata["image"].obsm["X_image"], expected)
    mdata["image"].X, mdata["image"].obsm = None, {}
    assert scl.pp.check(mdata, **KEYS)["check"].tolist() == ["no values"]


def test_columns_that_repeat_are_kept_once_if_they_are_one(mdata):
    before = frames(mdata)
    break_columns(mdata)
    table = scl.pp.check(mdata, **KEYS)
    assert table[["severity", "check"]].to_numpy().tolist() == [["error", "repeated columns"]]
    assert follow(mdata).empty
    same(mdata, before)
    break_columns(mdata)
    mdata["rna"].obs.iloc[0, -1] = 77
    (code,) = scl.pp.check(mdata, **KEYS)["code"]
    assert code == ""


def test_rows_without_counts(mdata):
    mdata["rna"].X[[2, 5]] = 0
    mdata["image"].obsm["X_image"][7] = 0
    table = scl.pp.check(mdata, **KEYS)
    names = mdata["rna"].obs_names[[2, 5]].tolist()
    assert table[["check", "modality"]].to_numpy().tolist() == [["empty rows", "rna"], ["empty rows", "image"]]
    assert table["finding"][0].endswith(f"2 row(s): {', '.join(names)}")
    mdata["rna"].X = sparse.csr_matrix(mdata["rna"].X)
    pd.testing.assert_frame_equal(scl.pp.check(mdata, **KEYS), table)


def test_controls_alone(mdata):
    edit(mdata, "image", "perturbation", lambda label: "control")
    table = scl.pp.check(mdata, **KEYS)
    assert table[["severity", "check", "modality"]].to_numpy().tolist() == [["error", "controls only", "image"]]


def test_an_empty_table_says_that_all_is_well(mdata, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        assert scl.pp.check(mdata, **KEYS).empty
    (record,) = caplog.records
    assert record.levelname == "INFO"
    n = [f"{mdata[name].n_obs} samples of {name}" for name in ("rna", "image")]
    assert record.getMessage() == f"nothing found in {n[0]} and {n[1]}: they can be paired"
