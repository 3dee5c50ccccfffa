import logging
import re
from collections import Counter
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiclip import errors
from semiclip._design import Design
from semiclip._pairing import key_codes, pair_rows, pair_rows_in_place

ON = ("drug", "dose")
DESIGN = Design.of(pair_on=ON, perturbation_key="drug", control="dmso")


def make(name="cell", **obs):
    n = len(next(iter(obs.values())))
    return anndata.AnnData(obs=pd.DataFrame(obs, index=[f"{name}{i}" for i in range(n)]))


def from_rows(rows, name="cell"):
    drugs, doses = zip(*rows, strict=True)
    return make(name, drug=pd.array(drugs, dtype=object), dose=np.array(doses, dtype=float))


def pair_values(student, teacher):
    """Pair by the one column ``key``, without controls."""
    return pair_rows(make(key=student), make(key=teacher), Design.of(pair_on="key"))


ROWS = st.lists(st.tuples(st.sampled_from(["dmso", "a", "b", "c"]), st.sampled_from([0.1, 1.0, 10.0])), max_size=15)


@settings(deadline=None)
@given(student=ROWS, teacher=ROWS)
def test_equals_counting_with_dictionaries(student, teacher):
    student, teacher = [("dmso", 0.0), ("a", 1.0), *student], [*teacher, ("dmso", 0.0), ("a", 1.0)]
    pairing = pair_rows(from_rows(student), from_rows(teacher), DESIGN)
    counted = [Counter(row for row in rows if row[0] != "dmso") for rows in (student, teacher)]
    expected = {key: (counted[0][key], counted[1][key]) for key in counted[0] | counted[1]}
    in_order = list(zip(pairing.counts["drug"], pairing.counts["dose"], strict=True))
    counts = map(tuple, pairing.counts[["n_student", "n_teacher"]].to_numpy())
    assert dict(zip(in_order, counts, strict=True)) == expected

    shared = [key for key, (n_student, n_teacher) in expected.items() if n_student and n_teacher]
    assert pairing.n_keys == len(shared)
    assert set(in_order[: pairing.n_keys]) == set(shared)
    for rows, codes in ((student, pairing.student), (teacher, pairing.teacher)):
        assert codes.tolist() == [in_order.index(row) if row in shared and row[0] != "dmso" else -1 for row in rows]


SAME = "0.1 0.1000000001, 0.1 0.10000049, 0.30000000000000004 0.3, 0.3333333333333333 0.333333, 1e-9 1.0000000001e-9, "
SAME += (
    "0.0 -0.0, 1 1.0, 0.99999999 1.0, 9.9999999e-10 1e-9, 123456.4 123456.0, 12345678 12345678.0, -0.1 -0.1000000001"
)
APART = "0.1 0.10000051, 0.1 0.100001, 0.3333333333333333 0.33333, 1e-9 1.00001e-9, 1e-9 0.0, 123457 123456, "
APART += "12345678.0 12345700.0, -0.1 0.1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        *((*map(float, pair.split()), True) for pair in SAME.split(", ")),
        *((*map(float, pair.split()), False) for pair in APART.split(", ")),
        (1, 1.0, True),
        (np.float32(0.1), 0.1, True),
        (np.float16(0.5), np.int64(1), False),
        ("0.1", "0.10", False),
    ],
)
def test_doses_match_to_six_significant_digits(one, other, same):
    rest = "other" if isinstance(one, str) else 7
    for student, teacher in ((one, other), (other, one)):
        pairing = pair_values(np.array([student, rest]), np.array([teacher, rest]))
        assert (pairing.n_keys == 2) == same
    assert not np.signbit(pair_values([-0.0], [-0.0]).counts["key"]).any()


@given(mantissa=st.integers(100_000, 999_999), exponent=st.integers(-15, 4), noise=st.floats(-4e-8, 4e-8))
def test_doses_that_agree_to_six_digits_are_one(mantissa, exponent, noise):
    written = float(f"{mantissa}e{exponent - 5}")
    computed = mantissa * 10.0 ** (exponent - 5) * (1 + noise)
    above = float(f"{mantissa + 1}e{exponent - 5}")
    pairing = pair_values([written, above], [computed])
    assert pairing.student.tolist() == [0, -1]
    assert pairing.teacher.tolist() == [0]
    assert pairing.counts["key"].tolist() == pytest.approx([written, above], rel=1e-12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.Categorical(["a", "b"]), ["b", "a"]),
        (pd.Categorical(["a", "b"], categories=["z", "b", "a"]), pd.Categorical(["b", "a"])),
        (pd.array(["a", "b"], dtype="string"), np.array(["b", "a"])),
        (pd.Categorical([0.1, 3.0]), [3.0, 0.1]),
        (pd.Categorical([1, 3]), [3.0, 1.0]),
        (pd.array([1, 3], dtype="Int64"), pd.array([3.0, 1.0], dtype="Float64")),
        (np.array([1, 3], dtype=np.uint8), np.array([3, 1], dtype=np.float32)),
        ([True, False], [False, True]),
        ([11954225, 11954226], [11954226.0, 11954225.0]),  # whole numbers are names of any length
        (["True", "False"], [False, True]),
    ],
)
def test_columns_of_any_kind_match(one, other):
    pairing = pair_values(one, other)
    assert pairing.n_keys == 2
    assert pairing.student.tolist() == pairing.teacher[::-1].tolist()


def test_controls_are_never_paired_even_if_their_key_is_shared():
    adata = from_rows([("dmso", 0), ("mock", 0), ("a", 1)])
    pairing = pair_rows(adata, adata, replace(DESIGN, control=("dmso", "mock")))
    assert pairing.student.tolist() == pairing.teacher.tolist() == [-1, -1, 0]
    assert len(pairing.counts) == 1
    without = pair_rows(adata, adata, replace(DESIGN, control=None))
    assert without.student.min() == 0
    assert without.n_keys == 3
    adata = make(drug=["dmso", "a", "dmso"], dose=[1.0, 1.0, 2.0])
    pairing = pair_rows(adata, adata, replace(DESIGN, pair_on=("dose",)))
    assert pairing.student.tolist() == pairing.teacher.tolist() == [-1, 0, -1]
    assert pairing.counts["n_student"].tolist() == [1]


@pytest.mark.parametrize("hole", [np.nan, np.inf, None, pd.NA])
def test_controls_need_no_key(hole):
    rows = [("a", 1), ("dmso", 0), ("b", 2), ("dmso", 0)]
    whole, holes = from_rows(rows), from_rows(rows)
    if hole is None:
        whole.obs["dose"] = whole.obs["dose"].astype(str)
        holes.obs["dose"] = pd.array(["1.0", None, "2.0", None], dtype=object)
    else:
        holes.obs["dose"] = pd.array([1, pd.NA, 2, pd.NA], dtype="Int64") if hole is pd.NA else [1.0, hole, 2.0, hole]
    expected = pair_rows(whole, whole, DESIGN)
    for sides in ((whole, holes), (holes, whole), (holes, holes)):
        pairing = pair_rows(*sides, DESIGN)
        assert pairing.student.tolist() == pairing.teacher.tolist() == [0, -1, 1, -1]
        pd.testing.assert_frame_equal(pairing.counts, expected.counts)
    assert key_codes(holes, ON, holes.obs["drug"].to_numpy() != "dmso").tolist() == [0, -1, 1, -1]


def test_each_modality_may_have_its_own_control_label(refuses):
    student, teacher = from_rows([("a", 1), ("dmso", 0), ("b", 1)]), from_rows([("mock", 0), ("a", 1), ("mock", 0)])
    pairing = pair_rows(student, teacher, replace(DESIGN, control=("dmso", "mock")))
    assert pairing.student.tolist() == [0, -1, -1]
    assert pairing.teacher.tolist() == [-1, 0, -1]
    assert pairing.counts["drug"].tolist() == ["a", "b"]
    with refuses(errors.UnknownControl, labels=["water"], frequent=["a", "dmso", "b", "mock", "a"]):
        pair_rows(student, teacher, replace(DESIGN, control=("dmso", "mock", "water")))
    with refuses(errors.UnknownControl, labels=["dmso"], frequent=["mock", "a"]):
        pair_rows(student, teacher, DESIGN)


BOTH = [("a", 1), ("dmso", 0), ("b", 1)]
CONTROLS, OTHER = [("dmso", 0), ("dmso", 0)], [("dmso", 0), ("b", 2.0)]
TEXT = make(drug=["a", "dmso"], dose=["1.0", "0.0"])
HOLES = [("a", 1), ("dmso", np.nan), ("b", np.nan)]


@pytest.mark.parametrize(
    ("student", "teacher", "change", "error", "data"),
    [
        (BOTH, OTHER, {}, errors.NothingShared, {"one": ["a | 1.0", "b | 1.0"], "other": ["b | 2.0"]}),
        (CONTROLS, BOTH, {}, errors.NothingShared, {"one": [], "other": ["a | 1.0", "b | 1.0"]}),
        (BOTH, TEXT, {}, errors.WrongDtype, {"where": "obs['dose'] (teacher)"}),
        (TEXT, BOTH, {}, errors.WrongDtype, {"where": "obs['dose'] (student)"}),
        (BOTH, HOLES, {}, errors.MissingValues, {"rows": ["cell2"]}),
        (BOTH, HOLES, {"control": None}, errors.MissingValues, {"rows": ["cell1", "cell2"]}),
        (make(drug=["a", "dmso"]), BOTH, {}, errors.MissingColumn, {"key": "dose", "there": ["drug"]}),
        ([("a", np.inf), ("dmso", 0), ("b", 1)], BOTH, {}, errors.NotFinite, {"rows": ["cell0"]}),
        (BOTH, [("a", 1)], {}, errors.UnknownControl, {"labels": ["dmso"], "frequent": ["a"]}),
        (BOTH, BOTH, {"pair_on": None}, errors.BadValue, {"name": "pair_on"}),
    ],
)
def test_refuses(refuses, student, teacher, change, error, data):
    sides = [from_rows(side) if isinstance(side, list) else side for side in (student, teacher)]
    with refuses(error, **data):
        pair_rows(*sides, replace(DESIGN, **change))


@pytest.mark.parametrize(
    ("student", "teacher", "told", "numbers"),
    [
        ("aab", "acdd", (1, 2, "gex", 3, "cells", 2, 3, "gex", 1, 4, "cells"), None),
        ("abc", "axyz", None, [1, 3, 1, 3]),  # less than half of the keys of the smaller side
        ("aaabc", "axyz", None, [1, 3, 3, 5]),
        ("abbb", "a", None, [1, 2, 1, 4]),  # of the rows alone
        ("ab", "ax", None, None),  # half is enough
        ("abcd", "ab", None, None),
        ("aabb", "abxyz", None, None),
        ("a", "a", None, None),
    ],
)
def test_the_report_tells_what_pairs_and_warns_where_less_than_half_is_left(
    caplog, warned, student, teacher, told, numbers
):
    sides = [from_rows([("dmso", 0), *((name, 1) for name in names)]) for names in (student, teacher)]
    with caplog.at_level(logging.INFO, logger="semiclip"):
        pair_rows(*sides, DESIGN).report("gex", "cells")
    (info,) = caplog.records
    assert info.levelname == "INFO"
    assert told in (None, info.args)
    messages = warned()
    assert [[int(number) for number in re.findall(r"\d+", text)] for text in messages] == ([numbers] if numbers else [])
    assert all(name in text for text in messages for name in ("gex", "cells"))


def test_in_place_every_treated_row_is_its_own_key():
    pairing = pair_rows_in_place(make(drug=["dmso", "a", "b", "dmso", "a"]), DESIGN)
    assert pairing.student.tolist() == pairing.teacher.tolist() == [-1, 0, 1, -1, 2]
    assert pairing.n_keys == 3
    assert pairing.counts["obs_name"].tolist() == ["cell1", "cell2", "cell4"]
    assert (pairing.counts[["n_student", "n_teacher"]] == 1).all(axis=None)
    assert pair_rows_in_place(make(drug=["a", "a"]), Design()).student.tolist() == [0, 1]
