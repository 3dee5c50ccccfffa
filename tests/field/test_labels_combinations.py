"""A+B and B+A are one combination, if an argument says what stands between the parts; `check` finds them."""

from __future__ import annotations

import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"pair_on": "drug", "perturbation_key": "drug", "control": "dmso"}


def pairs(mdata, **change):
    report = scl.pp.pair(mdata, **{**KEYS, **change})
    return report[["drug", "n_student", "n_teacher"]].to_numpy().tolist()


def test_combinations_in_another_order_pair_as_one(make_screen):
    mdata = make_screen(["a+b", "b+a", "c + a", "CD4+", "d"], ["b + a", "a+c", "CD4+", "d", "d"])
    assert [row for row in pairs(mdata) if row[1] and row[2]] == [["CD4+", 1, 1], ["d", 1, 2]]
    assert pairs(mdata, separator="+") == [["CD4+", 1, 1], ["a+b", 2, 1], ["a+c", 1, 1], ["d", 1, 2]]


@pytest.mark.parametrize("separator", ["|", "_", " and "])
def test_any_separator(make_screen, separator):
    mdata = make_screen([f"a{separator}b", "c"], [f"b{separator}a", "c"])
    assert len(pairs(mdata)) == 3
    assert pairs(mdata, separator=separator) == [[f"a{separator}b", 1, 1], ["c", 1, 1]]


@pytest.mark.parametrize("separator", ["+", "|", ";"])
def test_check_finds_them_and_its_code_writes_them_in_one_order(make_screen, separator):
    def join(*parts):
        return separator.join(parts)

    mdata = make_screen([join("a", "b"), join("b", "a"), "c"], [join("b", "a"), "c"])
    table = scl.pp.check(mdata, **KEYS)
    (row,) = table[table["check"] == "combinations"].itertuples()
    assert f"separator={separator!r}" in row.mend
    exec(row.code, {"mdata": mdata})
    assert pairs(mdata) == [[join("b", "a"), 2, 1], ["c", 1, 1]]  # the name that both have
    assert "combinations" not in scl.pp.check(mdata, **KEYS)["check"].tolist()


def test_with_the_argument_there_is_nothing_to_find(make_screen):
    mdata = make_screen(["a+b", "c"], ["b+a", "c"])
    assert "combinations" not in scl.pp.check(mdata, **KEYS, separator="+")["check"].tolist()


def test_an_underscore_joins_parts_only_if_these_are_labels_too(make_screen):
    mdata = make_screen(["CPD_1_11", "c"], ["CPD_11_1", "c"])
    assert "combinations" not in scl.pp.check(mdata, **KEYS)["check"].tolist()
    mdata = make_screen(["a_b", "a", "b"], ["b_a", "a"])
    table = scl.pp.check(mdata, **KEYS)
    assert "'a_b' and 'b_a'" in table.loc[table["check"] == "combinations", "finding"].item()


def test_where_doses_are_listed_in_the_order_of_the_parts_the_code_is_left_to_a_person(make_screen):
    mdata = make_screen(["a+b"], ["b+a"], dose=["1+10", "0", "0"])
    mdata["image"].obs["dose"] = ["10+1", "0", "0"]
    table = scl.pp.check(mdata, **{**KEYS, "pair_on": ["drug", "dose"]})
    (row,) = table[table["check"] == "combinations"].itertuples()
    assert row.code == ""
    assert "obs['dose']" in row.mend


@pytest.mark.parametrize("separator", ["", 3])
def test_refuses_a_separator_that_is_none(make_screen, refuses, separator):
    with refuses(errors.BadValue, name="separator", value=separator):
        scl.pp.pair(make_screen(["a"], ["a"]), **KEYS, separator=separator)
