import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

import semiclip as scl
from semiclip.datasets._assemble import modalities
from semiclip.pp._mistakes import Keys, Side
from semiclip.pp._spelling import spelling

KEYS = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "DMSO"}
PAIR = "rna, image"
DOSES = [0.1, 1.0, 10.0]


def side(names, doses=DOSES, controls="DMSO", repeat=1):
    """Every name at every dose, and three controls."""
    frame = pd.DataFrame([(name, dose) for name in names for dose in doses] * repeat, columns=["perturbation", "dose"])
    frame = pd.concat([frame, pd.DataFrame({"perturbation": [controls] * 3, "dose": doses[0]})], ignore_index=True)
    return AnnData(obs=frame.set_axis(frame.index.astype(str)))


def both(rna, image):
    for name, adata in (("rna", rna), ("image", image)):
        adata.obs_names = name + adata.obs_names
    return modalities(rna=rna, image=image)


@pytest.fixture
def mdata():
    """Eight compounds at three doses in both modalities."""
    names = [f"compound_{i}" for i in range(8)]
    return both(side(names), side(names))


def look(mdata, **change):
    return scl.pp.check(mdata, **KEYS | change)


def kinds(table):
    return list(zip(table["severity"], table["check"], table["modality"], strict=True))


def is_code(mend):
    try:
        compile(mend, "mend", "exec")
    except SyntaxError:
        return False
    return True


def shared(mdata, **change):
    return scl.pp.pair(mdata, **KEYS | change).attrs["summary"]["shared_keys"]


def mend(mdata, table, check):
    (code,) = table.loc[table["check"] == check, "mend"]
    exec(code, {"mdata": mdata})


# ---- numbers


def test_doses_that_are_text_are_compared_as_numbers(mdata):
    mdata["rna"].obs["dose"] = mdata["rna"].obs["dose"].astype(str)
    mdata["image"].obs["dose"] = mdata["image"].obs["dose"].map("{:g}".format)
    expected = {name: mdata[name].obs["dose"].astype(float) for name in ("rna", "image")}
    assert shared(mdata) == 8  # "0.1" alone
    table = look(mdata)
    assert kinds(table) == [("warning", "numbers as text", PAIR), ("warning", "few shared keys", PAIR)]
    assert "2 number(s) in obs['dose'] are text and written differently: '1.0' and '1', '10.0'" in table["finding"][0]
    mend(mdata, table, "numbers as text")
    for name, doses in expected.items():
        pd.testing.assert_series_equal(mdata[name].obs["dose"], doses)
    assert shared(mdata) == 24
    assert look(mdata).empty


def test_units_of_doses_that_are_text(mdata):
    mdata["rna"].obs["dose"] = mdata["rna"].obs["dose"].astype(str)
    mdata["image"].obs["dose"] = (mdata["image"].obs["dose"] * 1000).map("{:g}".format).astype("category")
    table = look(mdata)
    assert kinds(table)[0] == ("error", "units", PAIR)
    mend(mdata, table, "units")
    assert shared(mdata) == 24
    assert look(mdata).empty


@pytest.mark.parametrize("kind", ["both", "rna", "image"])
def test_numbers_may_be_categories(mdata, kind):
    for name in ("rna", "image") if kind == "both" else (kind,):
        mdata[name].obs["dose"] = mdata[name].obs["dose"].astype("category")
    assert shared(mdata) == 24
    assert look(mdata).empty
    mdata["image"].obs["dose"] = (mdata["image"].obs["dose"].astype(float) * 1000).astype("category")
    table = look(mdata)
    assert kinds(table)[0] == ("error", "units", PAIR)
    assert "of image is 1,000 times that of rna in 24 of 24 shared keys" in table["finding"][0]
    mend(mdata, table, "units")
    assert shared(mdata) == 24
    np.testing.assert_allclose(np.unique(mdata["image"].obs["dose"]), DOSES)


def test_categories_may_miss_values_of_controls_and_be_rounded(mdata):
    obs = mdata["image"].obs
    obs["dose"] = obs["dose"].where(obs["perturbation"] != "DMSO").astype("category")
    table = look(mdata)
    assert kinds(table) == [("info", "missing values", "image")]
    mend(mdata, table, "missing values")
    assert look(mdata).empty
    obs["dose"] = (obs["dose"] * 3.33).astype("category")
    mdata["rna"].obs["dose"] = (mdata["rna"].obs["dose"] * 3.3333).astype(str)
    table = look(mdata)
    assert ("warning", "rounding", PAIR) in kinds(table)
    mend(mdata, table, "rounding")
    assert shared(mdata) == 24


def test_rounding_keeps_apart_what_a_modality_tells_apart(mdata):
    image = mdata["image"]
    image.obs["dose"] = image.obs["dose"].map({0.1: 0.1, 1.0: 1.0, 10.0: 10.1})
    mdata["rna"].obs.loc["rna0", "dose"] = 10.104  # to two or three digits 10.1, to two digits 10
    table = look(mdata)
    assert ("warning", "rounding", PAIR) in kinds(table)
    (code,) = table.loc[table["check"] == "rounding", "mend"]
    assert not is_code(code)
    assert "makes one dose of two" in code


def test_text_beside_numbers_is_made_numbers_only_if_it_is(mdata):
    obs = mdata["image"].obs
    obs["dose"] = obs["dose"].map("{:g}".format).astype("string")
    table = look(mdata)
    assert kinds(table) == [("error", "kind of column", "image")]
    mend(mdata, table, "kind of column")
    assert look(mdata).empty
    obs["dose"] = obs["dose"].map("{:g} µM".format)
    table = look(mdata)
    assert kinds(table) == [("error", "kind of column", "image")]
    assert table["mend"][0].startswith(
        "make numbers of mdata['image'].obs['dose'] by hand, since '0.1 µM', '1 µM', '10 µM' are none"
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["1.0", "5"], ["1", "001", "5.5"]),  # two labels of one modality
        (["1.0", "none"], ["1", "none"]),  # not all are numbers
        (["0.12345610", "0.1234562"], ["0.1234561", "1"]),  # pairing would make one of two
    ],
)
def test_numbers_that_are_text_are_left_alone_where_that_is_unsafe(ours, theirs):
    names = [f"compound_{i}" for i in range(20)]
    table = look(both(side(names, ours), side(names, theirs)))
    mends = table.loc[table["check"].isin(["numbers as text", "similar labels"]), "mend"]
    assert len(mends) == 1
    assert not is_code(mends.iloc[0])


def test_perturbations_that_are_numbers_are_no_doses(mdata):
    """Neither units nor rounding: 7157 is not nearly 7158."""
    for name, names in (("rna", ["7157", "4609", "1"]), ("image", ["7158", "4609.0", "1000"])):
        adata = side(names, [1.0])
        adata.obs_names = name + adata.obs_names
        mdata.mod[name] = adata
    table = look(mdata)
    assert kinds(table)[1:] == [("warning", "numbers as text", PAIR)]
    assert table["mend"][1] == (
        "mdata['image'].obs['perturbation'] = mdata['image'].obs['perturbation'].astype(object)"
        ".replace({'4609.0': '4609'})"
    )
    ids = {"7157": 7157, "4609": 4609, "1": 1, "7158": 7158, "4609.0": 4609, "1000": 1000, "DMSO": 0}
    for adata in mdata.mod.values():
        adata.obs["perturbation"] = adata.obs["perturbation"].map(ids)
    assert kinds(look(mdata, control=0)) == [("warning", "few shared keys", PAIR)]


# ---- names


def found(ours, theirs, control="DMSO"):
    """Return the check and the mend for two lists of names."""
    mdata = {"rna": side(ours, [1.0], control), "image": side(theirs, [1.0], control)}
    findings = spelling(*(Side(name, adata) for name, adata in mdata.items()), _keys(control))
    return mdata, [(each.check, each.mend) for each in findings]


def _keys(control):
    return Keys(["perturbation", "dose"], "perturbation", [control], None, None)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("aspirin", "Aspirin"),
        ("aspirin", "ASPIRIN "),
        ("compound_7", "Compound  7"),
        ("compound_7", "COMPOUND-7"),
        ("CPD-1-11", "cpd_1_11"),
        ("10 µM", "10 \u03bcM"),  # the sign of micro and the letter
        ("Café", "Cafe\u0301"),
        ("7157", "7157.0"),
    ],
)
def test_names_that_are_one(ours, theirs):
    mdata, ((_, mend),) = found([ours, "x"], [theirs, "x"])
    exec(mend, {"mdata": mdata})
    for adata in mdata.values():
        assert adata.obs["perturbation"].tolist() == [ours, "x", *["DMSO"] * 3]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("CPD-1-11", "CPD-11-1"),
        ("CPD-1-11", "CPD-11 1"),
        ("CPD-11", "CPD-1-1"),
        ("x 1.0", "x 10"),
        ("x 1.5", "x 1-5"),
        ("1.0", "10"),
        ("-5", "5"),
        ("1e-5 M", "1e5 M"),
        ("(+)-x", "(-)-x"),
        ("CD4+", "CD4-"),
        ("CD4-", "CD4"),
        ("x -5", "x 5.0"),
        ("TGF-β", "TGF-b"),
        ("10 µM", "10 mM"),
        ("x²", "x2"),
        ("IL1-2", "IL-12"),
    ],
)
def test_names_that_are_two(ours, theirs):
    assert found([ours, "x"], [theirs, "x"])[1] == []


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["TGF-b"], ["TGFb"]),
        (["A1"], ["A-1"]),
        (["NSC 123"], ["NSC123"]),
        (["compound.7"], ["compound 7"]),
        (["x-1"], ["x 1", "x_1"]),  # one modality tells them apart
        (["x-1", "x_1"], ["X_1"]),
        (["1E5"], ["100000"]),  # a clone?
        (["007"], ["7"]),
    ],
)
def test_names_that_may_be_two_are_reported_and_left(ours, theirs):
    _, findings = found(ours, theirs)
    assert [check for check, _ in findings] == ["similar labels"]
    assert not is_code(findings[0][1])


def test_controls_are_not_renamed_with_names_like_theirs():
    assert found(["drug a"], ["DRUG A"])[1][0][0] == "spelling"
    _, ((check, mend),) = found(["drug a"], ["DRUG A"], control="Drug A")
    assert check == "similar labels"
    assert not is_code(mend)


def test_case_alone_may_differ_within_a_modality():
    mdata, ((check, mend),) = found(["Aspirin", "aspirin"], ["aspirin", "ASPIRIN"])
    assert check == "spelling"
    exec(mend, {"mdata": mdata})
    for adata in mdata.values():
        assert adata.obs["perturbation"].tolist() == ["aspirin"] * 2 + ["DMSO"] * 3


def test_what_is_missing_stays_missing():
    mdata = both(side(["aspirin", "x"], [1.0]), side(["Aspirin", None], [1.0]))
    for adata in mdata.mod.values():
        adata.obs["plate"] = pd.Categorical(["a", None, "a", "a", "a"])
    table = look(mdata, batch_key="plate")
    mend(mdata, table, "spelling")
    mend(mdata, table, "shared batch names")
    assert mdata["image"].obs["perturbation"].isna().tolist() == [False, True, False, False, False]
    assert mdata["image"].obs["plate"].isna().tolist() == [False, True, False, False, False]
    assert mdata["image"].obs["plate"].dropna().unique().tolist() == ["image:a"]


labels = st.lists(st.text("aAe12-_ .+", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@settings(max_examples=80, deadline=None)
@given(labels, labels)
def test_a_mend_of_names_never_makes_one_of_two(ours, theirs):
    mdata, findings = found(ours, theirs)
    before = {name: adata.obs["perturbation"].tolist() for name, adata in mdata.items()}
    for _, code in findings:
        if is_code(code):
            exec(code, {"mdata": mdata})
    for name, adata in mdata.items():
        after = adata.obs["perturbation"].tolist()
        for new in set(after):
            old = {a for a, b in zip(before[name], after, strict=True) if b == new}
            assert len({"".join(label.split()).casefold() for label in old}) == 1
        for old, new in zip(before[name], after, strict=True):
            if old != new and not {old, new} & _numbers([old, new]):
                assert re.findall(r"\d+", old) == re.findall(r"\d+", new)  # no digit goes over to another number
                assert re.sub(r"[-_\s]", "", old).casefold() == re.sub(r"[-_\s]", "", new).casefold()
            elif old != new:
                assert float(old) == float(new)
    assert set(ours) & set(theirs) <= set(mdata["rna"].obs["perturbation"]) & set(mdata["image"].obs["perturbation"])


def _numbers(labels):
    return {label for label in labels if re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", label.casefold())}


# ---- controls


def test_each_modality_may_name_its_controls_otherwise(mdata):
    mdata["image"].obs["perturbation"] = mdata["image"].obs["perturbation"].replace("DMSO", "negcon")
    assert look(mdata, control=["DMSO", "negcon"]).empty
    table = look(mdata, control=["DMSO", "negcon", "mock"])
    assert kinds(table) == [("error", "control names", PAIR)]
    assert table["finding"][0] == "no row of either modality is labelled mock"
    assert table["mend"][0] == "pass control=['DMSO', 'negcon'], or the right label"
    assert kinds(look(mdata)) == [("error", "control names", "image")]


def test_a_modality_without_any_of_the_controls(mdata):
    obs = mdata["image"].obs
    obs["perturbation"] = obs["perturbation"].replace("DMSO", "NegCon").astype("category")
    table = look(mdata, control=["DMSO", "negcon"])
    assert kinds(table) == [("error", "control names", "image")]
    assert "no row is labelled DMSO, negcon, but NegCon (3 rows)" in table["finding"][0]
    mend(mdata, table, "control names")
    assert obs["perturbation"].tolist()[-3:] == ["negcon"] * 3
    assert look(mdata, control=["DMSO", "negcon"]).empty
    obs["perturbation"] = obs["perturbation"].replace({"negcon": "vehicle", "compound_1": "empty"})
    table = look(mdata)
    assert table["mend"][0] == "name those of ['empty', 'vehicle'] that are controls in control="


def test_labels_like_controls_are_not_made_controls(mdata):
    mdata["rna"].obs["perturbation"] = mdata["rna"].obs["perturbation"].replace("compound_1", "empty")
    table = look(mdata)
    assert kinds(table) == [("warning", "control names", "rna")]
    assert table["mend"][0] == "pass control=['DMSO', 'empty'], if they are controls"


@pytest.mark.parametrize("key", ["perturbation", None])
def test_controls_that_nobody_named_are_found(mdata, key):
    table = look(mdata, control=None, perturbation_key=key)
    assert kinds(table) == [("warning", "control names", name) for name in ("rna", "image")]
    assert table["finding"][0] == (
        "control=None, but DMSO (3 rows) in obs['perturbation'] are named like controls and would be learnt as "
        "perturbations"
    )
    assert table["mend"][0] == "pass perturbation_key='perturbation', control='DMSO', if they are controls"
    mdata["image"].obs["perturbation"] = mdata["image"].obs["perturbation"].replace("DMSO", "negcon")
    table = look(mdata, control=None, perturbation_key=key)
    assert "control=['DMSO', 'negcon']" in table["mend"][0]
    with pytest.raises(ValueError, match="control names no label; pass the label"):
        look(mdata, control=[])


def test_an_exponent_beyond_all_numbers_is_a_name():
    names = [f"compound_{i}" for i in range(20)] + ["1e10000000000000000000"]
    assert look(both(side(names, [1.0]), side(names, [1.0]))).empty
