"""Corrections of arrays and tensors of any precision and layout, by parts and in any order."""

import numpy as np
import pytest
import torch

from semiclip.correction import RECIPES, Affine, Correction, _correct, correct, fit_correction


@pytest.mark.parametrize("key", list(RECIPES))
def test_tensors_precisions_blocks_and_layouts_change_nothing(key, monkeypatch, study, unsigned):
    x, batch, control = study()
    keywords = {"method": key[0], "profile": key[1]}
    single = x.astype(np.float32)
    before = x.copy(), single.copy(), batch.copy(), control.copy()
    expected = correct(x, batch, control, **keywords)
    inputs = {
        "float32": (single, np.float32, 1e-3),
        "tensor": (torch.from_numpy(x), torch.float64, 1e-10),
        "tensor of float32": (torch.from_numpy(single), torch.float32, 1e-3),
        "columns first": (np.asfortranarray(x), np.float64, 1e-10),
        "every other column": (np.repeat(x, 2, axis=1)[:, ::2], float, 1e-10),
        "blocks": (x, np.float64, 1e-10),
    }
    for name, (values, dtype, tolerance) in inputs.items():
        monkeypatch.setattr(_correct, "BLOCK", 7 if name == "blocks" else 1 << 16)
        fitted = fit_correction(values, batch, control, **keywords)
        out = fitted(values, batch)
        assert all(part.dtype == dtype for chain in fitted.chains for part in chain if part is not None), name
        assert out.dtype == dtype, name
        assert type(out) is type(values), name
        out = unsigned(np.asarray(out), expected) if key == ("tvn", "public") else np.asarray(out)
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    for array, copy in zip((x, single, batch, control), before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, expected)


@pytest.mark.parametrize("key", list(RECIPES))
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_a_fitted_correction_may_be_applied_by_parts(key, convert, study):
    x, batch, control = study()
    keywords = {"method": key[0], "profile": key[1], "ridge": 0.1}
    fitted = fit_correction(convert(x), batch, control, **keywords)
    whole = correct(convert(x), batch, control, **keywords)
    np.testing.assert_array_equal(fitted(convert(x), batch), whole)
    for rows in (np.arange(7), np.array([50, 3, 3, 120]), np.flatnonzero(batch == 2), np.arange(len(x))[::-1]):
        part = fitted(convert(x), batch, rows)
        assert (type(part), part.dtype) == (type(whole), whole.dtype)
        np.testing.assert_allclose(part, whole[rows.copy()], rtol=1e-10, atol=1e-12)
        rows = rows.copy()  # as rows that it was not fitted on
        np.testing.assert_allclose(fitted(convert(x[rows]), batch[rows]), whole[rows], rtol=1e-10, atol=1e-12)
    assert fitted(convert(x), batch, np.arange(0)).shape == (0, whole.shape[1])


def test_no_correction_is_no_copy(study):
    x, batch, _ = study()
    assert Correction([Affine()])(x, batch) is x
    np.testing.assert_array_equal(Correction([Affine()])(x, batch, np.array([5, 2])), x[[5, 2]])


def test_the_order_of_rows_and_what_is_not_a_control_do_not_matter(study):
    x, batch, control = study()
    out = correct(x, batch, control)
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(correct(x[order], batch[order], control[order]), out[order], rtol=1e-9, atol=1e-11)
    changed = x.copy()
    treated = np.flatnonzero(~control)[3]
    changed[treated] = 1e6
    again = correct(changed, batch, control)
    np.testing.assert_allclose(np.delete(again, treated, 0), np.delete(out, treated, 0), rtol=1e-12, atol=1e-13)
    assert np.isfinite(correct(x, batch, control | (batch == 2))).all()  # a batch of controls alone
