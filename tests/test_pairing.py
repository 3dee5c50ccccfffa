import logging
import re
from collections import Counter

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiclip._pairing import keys_of, pair_rows, pair_rows_in_place

ON = ["drug", "dose"]
KEYS = {"pair_on": ON, "perturbation_key": "drug", "control": "dmso"}


def make(name="cell", **obs):
    n = len(next(iter(obs.values())))
    return anndata.AnnData(obs=pd.DataFrame(obs, index=[f"{name}{i}" for i in range(n)]))


def from_rows(rows, name="cell"):
    drugs, doses = zip(*rows, strict=True)
    return make(name, drug=pd.array(drugs, dtype=object), dose=np.array(doses, dtype=float))


def counts_of(pairing, on=ON):
    """The counts as a dictionary."""
    return {tuple(row[on]): (row["n_student"], row["n_teacher"]) for _, row in pairing.counts.iterrows()}


ROWS = st.lists(st.tuples(st.sampled_from(["dmso", "a", "b", "c"]), st.sampled_from([0.1, 1.0, 10.0])), max_size=15)


@given(student=ROWS, teacher=ROWS)
def test_equals_counting_with_dictionaries(student, teacher):
    student, teacher = [("dmso", 0.0), ("a", 1.0), *student], [*teacher, ("dmso", 0.0), ("a", 1.0)]
    pairing = pair_rows(from_rows(student), from_rows(teacher), **KEYS)
    counted = [Counter(row for row in rows if row[0] != "dmso") for rows in (student, teacher)]
    expected = {key: (counted[0][key], counted[1][key]) for key in counted[0] | counted[1]}
    assert counts_of(pairing) == expected

    shared = [key for key, (n_student, n_teacher) in expected.items() if n_student and n_teacher]
    assert pairing.n_keys == len(shared)
    in_order = list(zip(pairing.counts["drug"], pairing.counts["dose"], strict=True))
    assert set(in_order[: pairing.n_keys]) == set(shared)
    for rows, codes in ((student, pairing.student), (teacher, pairing.teacher)):
        assert codes.tolist() == [in_order.index(row) if row in shared and row[0] != "dmso" else -1 for row in rows]


def test_the_table():
    student = from_rows([("b", 1), ("dmso", 0), ("a", 1), ("a", 1), ("c", 1)])
    teacher = from_rows([("a", 1), ("z", 1), ("b", 1), ("dmso", 0), ("b", 1)])
    pairing = pair_rows(student, teacher, **KEYS)
    expected = pd.DataFrame({"drug": list("abcz"), "dose": 1.0, "n_student": [2, 1, 1, 0], "n_teacher": [1, 2, 0, 1]})
    pd.testing.assert_frame_equal(pairing.counts, expected, check_dtype=False)
    assert pairing.student.tolist() == [1, -1, 0, 0, -1]
    assert pairing.teacher.tolist() == [0, -1, 1, -1, 1]
    assert pairing.n_keys == 2


@pytest.mark.parametrize("on", ["drug", ["drug"], ("drug",)])
def test_one_column_or_several(on):
    pairing = pair_rows(make(drug=["a", "b"]), make(drug=["b", "b"]), pair_on=on, perturbation_key=None, control=None)
    assert pairing.student.tolist() == [-1, 0]
    assert pairing.teacher.tolist() == [0, 0]
    assert pairing.counts["drug"].tolist() == ["b", "a"]


def paired(student, teacher):
    """Whether two values make one key."""
    other = 7 if not isinstance(student, str) else "other"
    adatas = [make(key=np.array([value, other])) for value in (student, teacher)]
    pairing = pair_rows(*adatas, pair_on="key", perturbation_key=None, control=None)
    return pairing.n_keys == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.1, 0.1000000001, True),
        (0.1, 0.10000049, True),
        (0.1, 0.10000051, False),
        (0.1, 0.100001, False),
        (0.1 + 0.2, 0.3, True),
        (1 / 3, 0.333333, True),
        (1 / 3, 0.33333, False),
        (1e-9, 1.0000000001e-9, True),
        (1e-9, 1.00001e-9, False),
        (1e-9, 2e-9, False),
        (1e-9, 0.0, False),
        (0.0, -0.0, True),
        (1, 1.0, True),
        (0.99999999, 1.0, True),
        (9.9999999e-10, 1e-9, True),
        (123456.4, 123456.0, True),
        (123457, 123456, False),
        (12345678.0, 12345700.0, False),
        (12345678, 12345678.0, True),
        (-0.1, -0.1000000001, True),
        (-0.1, 0.1, False),
        (np.float32(0.1), 0.1, True),
        (np.float16(0.5), np.int64(1), False),
        ("0.1", "0.10", False),
    ],
)
def test_doses_match_to_six_significant_digits(one, other, same):
    assert paired(one, other) == paired(other, one) == same


def test_whole_numbers_are_names_of_any_length():
    student, teacher = make(cid=[11954225, 11954226]), make(cid=np.array([11954226.0, 11954225.0]))
    pairing = pair_rows(student, teacher, pair_on="cid", perturbation_key=None, control=None)
    assert (pairing.n_keys, pairing.student.tolist(), pairing.teacher.tolist()) == (2, [0, 1], [1, 0])


@given(mantissa=st.integers(100_000, 999_999), exponent=st.integers(-15, 4), noise=st.floats(-4e-8, 4e-8))
def test_doses_that_agree_to_six_digits_are_one(mantissa, exponent, noise):
    written = float(f"{mantissa}e{exponent - 5}")
    computed = mantissa * 10.0 ** (exponent - 5) * (1 + noise)
    above = float(f"{mantissa + 1}e{exponent - 5}")
    student, teacher = make(dose=[written, above]), make(dose=[computed])
    pairing = pair_rows(student, teacher, pair_on="dose", perturbation_key=None, control=None)
    assert pairing.student.tolist() == [0, -1]
    assert pairing.teacher.tolist() == [0]
    assert pairing.counts["dose"].tolist() == pytest.approx([written, above], rel=1e-12)


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
        (["True", "False"], [False, True]),
    ],
)
def test_columns_of_any_kind_match(one, other):
    pairing = pair_rows(make(key=one), make(key=other), pair_on="key", perturbation_key=None, control=None)
    assert pairing.n_keys == 2
    assert pairing.student.tolist() == pairing.teacher[::-1].tolist()


def test_controls_are_never_paired():
    rows = [("dmso", 0), ("mock", 0), ("a", 1)]
    pairing = pair_rows(from_rows(rows), from_rows(rows), **KEYS | {"control": ["dmso", "mock"]})
    assert pairing.student.tolist() == pairing.teacher.tolist() == [-1, -1, 0]
    assert len(pairing.counts) == 1
    without = pair_rows(from_rows(rows), from_rows(rows), **KEYS | {"control": None})
    assert without.student.min() == 0
    assert without.n_keys == 3


def test_a_control_is_not_paired_even_if_its_key_is_shared():
    adata = make(drug=["dmso", "a", "dmso"], dose=[1.0, 1.0, 2.0])
    pairing = pair_rows(adata, adata, **KEYS | {"pair_on": "dose"})
    assert pairing.student.tolist() == pairing.teacher.tolist() == [-1, 0, -1]
    assert pairing.counts["n_student"].tolist() == [1]


def test_zero_is_reported_without_a_sign():
    pairing = pair_rows(make(dose=[-0.0]), make(dose=[-0.0]), pair_on="dose", perturbation_key=None, control=None)
    assert not np.signbit(pairing.counts["dose"]).any()


def test_nothing_is_changed():
    student, teacher = from_rows([("a", 1), ("dmso", 0)]), from_rows([("a", 1.0000000001), ("dmso", 0)])
    before = [adata.obs.copy() for adata in (student, teacher)]
    pair_rows(student, teacher, **KEYS)
    for adata, obs in zip((student, teacher), before, strict=True):
        pd.testing.assert_frame_equal(adata.obs, obs)


def refuses(error, message, student, teacher, **change):
    with pytest.raises(error, match=re.escape(message)):
        pair_rows(student, teacher, **KEYS | change)


def test_no_shared_key_shows_examples():
    student = from_rows([("dmso", 0), *((f"d{i}", 0.1) for i in range(5)), ("d0", 0.1)])
    teacher = from_rows([("dmso", 0), ("d0", 1.0)])
    message = (
        "the modalities share no key on ['drug', 'dose']: the student has d0 | 0.1, d1 | 0.1, d2 | 0.1, … (5 in all); "
        "the teacher has d0 | 1.0"
    )
    refuses(ValueError, message, student, teacher)


@pytest.mark.parametrize("pair_on", ["drug", ["drug", "dose"]])
def test_no_treated_row(pair_on):
    controls, both = from_rows([("dmso", 0), ("dmso", 0)]), from_rows([("dmso", 0), ("a", 1)])
    refuses(ValueError, "the student has controls alone; the teacher has a", controls, both, pair_on=pair_on)
    refuses(ValueError, "the teacher has controls alone", both, controls, pair_on=pair_on)
    refuses(ValueError, "controls alone; the teacher has controls alone", controls, controls, pair_on=pair_on)


def test_numbers_and_text_are_not_compared():
    student, teacher = make(drug=["a", "dmso"], dose=[1.0, 0.0]), make(drug=["a", "dmso"], dose=["1.0", "0.0"])
    message = "obs['dose'] is numeric in one modality and text in the other; convert one so that keys can match"
    refuses(TypeError, message, student, teacher)
    refuses(TypeError, message, teacher, student)


def test_missing_values_and_columns_are_named():
    whole = from_rows([("a", 1), ("dmso", 0), ("b", 1)])
    holes = from_rows([("a", 1), ("dmso", np.nan), ("b", np.nan)])
    refuses(ValueError, "obs['dose'] (pair_on) has no value in 1 row(s): cell2; fill or drop them", whole, holes)
    message = "obs['dose'] (pair_on) has no value in 2 row(s): cell1, cell2; fill or drop them"
    refuses(ValueError, message, whole, holes, perturbation_key=None, control=None)  # no row is known to be a control
    without = make(drug=["a", "dmso"])
    refuses(KeyError, "pair_on='dose' is not a column of obs, which has drug", without, whole)


@pytest.mark.parametrize(
    "hole", [np.nan, np.inf, None, pd.NA], ids=["nan", "inf", "None in text", "NA in whole numbers"]
)
def test_controls_need_no_key(hole):
    rows = [("a", 1), ("dmso", 0), ("b", 2), ("dmso", 0)]
    whole, holes = from_rows(rows), from_rows(rows)
    if hole is None:
        whole.obs["dose"] = whole.obs["dose"].astype(str)
        holes.obs["dose"] = pd.array(["1.0", None, "2.0", None], dtype=object)
    else:
        holes.obs["dose"] = pd.array([1, pd.NA, 2, pd.NA], dtype="Int64") if hole is pd.NA else [1.0, hole, 2.0, hole]
    expected = pair_rows(whole, whole, **KEYS)
    for pairing in (pair_rows(whole, holes, **KEYS), pair_rows(holes, whole, **KEYS), pair_rows(holes, holes, **KEYS)):
        assert pairing.student.tolist() == pairing.teacher.tolist() == [0, -1, 1, -1]
        pd.testing.assert_frame_equal(pairing.counts, expected.counts)
    assert keys_of(holes, ON, holes.obs["drug"].to_numpy() != "dmso").tolist() == [0, -1, 1, -1]


def test_infinite_doses_are_named():
    student, teacher = from_rows([("a", np.inf), ("dmso", 0), ("b", 1)]), from_rows([("b", 1), ("dmso", 0)])
    refuses(ValueError, "obs['dose'] (pair_on) is infinite", student, teacher)


def test_no_column_to_pair_on():
    adata = from_rows([("a", 1), ("dmso", 0)])
    refuses(ValueError, "pair_on names no column; name obs columns that both", adata, adata, pair_on=[])


def test_a_control_label_that_one_modality_lacks():
    student, teacher = from_rows([("a", 1), ("dmso", 0)]), from_rows([("a", 1)])
    refuses(
        ValueError,
        "control label(s) dmso match no row of obs['drug']; its most frequent labels are a.",
        student,
        teacher,
    )
    refuses(ValueError, "control label(s) dmso, mock match no row", student, teacher, control=["dmso", "mock"])


def test_each_modality_may_have_its_own_control_label():
    student, teacher = from_rows([("a", 1), ("dmso", 0), ("b", 1)]), from_rows([("mock", 0), ("a", 1), ("mock", 0)])
    pairing = pair_rows(student, teacher, **KEYS | {"control": ["dmso", "mock"]})
    assert pairing.student.tolist() == [0, -1, -1]
    assert pairing.teacher.tolist() == [-1, 0, -1]
    assert pairing.counts["drug"].tolist() == ["a", "b"]
    message = (
        "control label(s) water match no row of obs['drug'] of any modality; its most frequent labels are a, dmso, b; "
        "mock, a. Pass the right label(s) as control=, or control=None for data without controls"
    )
    refuses(ValueError, message, student, teacher, control=["dmso", "mock", "water"])
    message = "Pass the right label(s) as control=, several where modalities name their controls differently, or contr"
    refuses(ValueError, message, student, teacher, control="dmso")


class TestLog:
    """Controls are neither kept nor lost."""

    def messages(self, caplog, student, teacher):
        pairing = pair_rows(*(from_rows([("dmso", 0), *rows]) for rows in (student, teacher)), **KEYS)
        with caplog.at_level(logging.INFO, logger="semiclip"):
            pairing.log("gex", "cells")
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    def test_says_what_pairs(self, caplog):
        found = self.messages(caplog, [("a", 1), ("a", 1), ("b", 1)], [("a", 1), ("c", 1), ("d", 1), ("d", 1)])
        assert found == [
            (
                "INFO",
                "1 keys are shared, of 2 in gex and 3 in cells; of the treated rows, 2 of 3 in gex and 1 of 4 in cells "
                "have a partner, and the others take no part",
            )
        ]

    @pytest.mark.parametrize(
        ("student", "teacher", "counts"),
        [
            ("abc", "axyz", "1 of 3 keys and 1 of 3 treated rows"),  # less than half of the keys of the smaller side
            ("aaabc", "axyz", "1 of 3 keys and 3 of 5 treated rows"),
            ("abbb", "a", "1 of 2 keys and 1 of 4 treated rows"),  # of the rows alone
        ],
    )
    def test_warns_where_less_than_half_is_left(self, caplog, student, teacher, counts):
        found = self.messages(caplog, *([(name, 1) for name in side] for side in (student, teacher)))
        assert found[1:] == [
            (
                "WARNING",
                f"{counts} in gex have a partner in cells: if these should be more, scl.pp.check(mdata, ...) finds "
                "what is spelt or measured otherwise, and scl.pp.pair(mdata, ...) lists the keys",
            )
        ]

    @pytest.mark.parametrize(("student", "teacher"), [("ab", "ax"), ("abcd", "ab"), ("aabb", "abxyz"), ("a", "a")])
    def test_half_is_enough(self, caplog, student, teacher):
        assert len(self.messages(caplog, *([(name, 1) for name in side] for side in (student, teacher)))) == 1


class TestInPlace:
    def test_every_treated_row_is_its_own_key(self):
        adata = make(drug=["dmso", "a", "b", "dmso", "a"])
        pairing = pair_rows_in_place(adata, "drug", "dmso")
        assert pairing.student.tolist() == pairing.teacher.tolist() == [-1, 0, 1, -1, 2]
        assert pairing.n_keys == 3
        assert pairing.counts["obs_name"].tolist() == ["cell1", "cell2", "cell4"]
        assert (pairing.counts[["n_student", "n_teacher"]] == 1).all(axis=None)

    def test_without_controls(self):
        assert pair_rows_in_place(make(drug=["a", "a"]), None, None).student.tolist() == [0, 1]
