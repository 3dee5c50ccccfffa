from __future__ import annotations

import numpy as np
import pytest

import semiclip as scl
from semiclip.objectives import OBJECTIVES


@pytest.fixture
def arguments(setup, quiet):
    return setup | quiet | {"max_epochs": 2, "rng": 0}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_call_for_every_objective(mdata, small_study, arguments, through_h5mu, objective):
    kwargs = {"n_components": 8} if objective == "dcca" else {}
    model = scl.tl.distill(mdata, objective=objective, model_kwargs=kwargs, **arguments)
    key, width = f"X_{objective}", 8 if kwargs else 16
    written = mdata["rna"].obsm[key]
    assert (written.dtype, written.shape) == (np.float32, (mdata["rna"].n_obs, width))
    np.testing.assert_array_equal(written, model.get_latent_representation())
    again = through_h5mu(mdata)
    params = again["rna"].uns["semiclip"][key]["params"]
    assert params["objective"] == objective
    for name, value in model.init_params_["kwargs"]["objective_kwargs"].items():
        if value is None:
            assert name not in params
        else:
            assert params[name] == value
    knockouts = small_study.knockouts.copy()
    scl.tl.embed(knockouts, model)  # under the same key
    assert np.isfinite(knockouts["rna"].obsm[key]).all()


def test_semiclip_is_the_short_way_to_one_of_them(mdata, arguments):
    scl.tl.semiclip(mdata, **arguments, model_kwargs={"temperature": 0.2})
    scl.tl.distill(mdata, objective="semiclip", key_added="X_long", **arguments, model_kwargs={"temperature": 0.2})
    np.testing.assert_array_equal(mdata["rna"].obsm["X_semiclip"], mdata["rna"].obsm["X_long"])
    stored = mdata["rna"].uns["semiclip"]
    assert str(stored["X_semiclip"]) == str(stored["X_long"])


def test_what_is_not_known_writes_nothing(mdata, arguments):
    with pytest.raises(ValueError, match="objective='simclr' is not one of semiclip, siglip, vicreg, dcca"):
        scl.tl.distill(mdata, objective="simclr", **arguments)
    with pytest.raises(TypeError, match="temperature is neither an argument of SemiClip nor of objective='siglip'"):
        scl.tl.distill(mdata, objective="siglip", model_kwargs={"temperature": 1}, **arguments)
    for call in (scl.tl.semiclip, lambda *data, **kwargs: scl.tl.distill(*data, objective="dcca", **kwargs)):
        with pytest.raises(ValueError, match=r"model_kwargs has an objective of its own; pass objective= to scl"):
            call(mdata, model_kwargs={"objective": "vicreg"}, **arguments)
    assert list(mdata["rna"].obsm) == ["X_pca"]
    assert not mdata.uns
