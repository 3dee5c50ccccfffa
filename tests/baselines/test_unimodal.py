from __future__ import annotations

import numpy as np

from semiclip.baselines import Unimodal


def test_is_the_student_and_no_view_of_it():
    rng = np.random.default_rng(0)
    student = rng.normal(size=(6, 3)).astype(np.float32)
    baseline = Unimodal().fit(student, rng.normal(size=(6, 2)), np.arange(6), rng=rng)
    out = baseline.transform(student)
    np.testing.assert_array_equal(out, student)
    assert not np.shares_memory(out, student)
