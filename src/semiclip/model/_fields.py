"""How scvi-tools finds the two representations, and what a query must have of them: the student, in the same space."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.data import AnnDataManager
from scvi.data._constants import _FIELD_REGISTRIES_KEY, _SETUP_METHOD_NAME
from scvi.data.fields import MuDataWrapper, ObsmField

from semiclip._checks import representation, some
from semiclip._provenance import recorded_fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

STUDENT, TEACHER = "student", "teacher"
FINGERPRINT = "fingerprint"  # of the encoder of the student, in the registry where the training data tell it


def as_learned(adata: AnnData, rep: str, values: np.ndarray, learned: Mapping[str, Any], *, warn: bool) -> np.ndarray:
    """Return the values of ``obsm[rep]`` with the columns that a model was set up with, or refuse others.

    Named columns are put in their order; unnamed ones are taken as they come. ``warn`` of data that do not tell which
    encoder made them, where the training data do.
    """
    known = learned[RepresentationField.COLUMN_NAMES_KEY]
    if (width := values.shape[1]) != len(known):
        msg = (
            f"obsm[{rep!r}] does not match: that of the query has {width} dimensions, but the model was set up with "
            f"{len(known)}; encode the query with the same encoder"
        )
        raise ValueError(msg)
    _check_encoder(adata, rep, learned.get(FINGERPRINT), warn=warn)
    if not isinstance(adata.obsm[rep], pd.DataFrame) or not isinstance(known, list):
        return values
    names, wanted = (pd.Index([str(name) for name in columns]) for columns in (adata.obsm[rep].columns, known))
    if names.equals(wanted):
        return values
    if not names.is_unique or not wanted.is_unique or not wanted.isin(names).all():
        lacking, strange, repeated = wanted[~wanted.isin(names)], names[~names.isin(wanted)], names[names.duplicated()]
        found = {"lacks": lacking, "has": strange, "repeats": repeated}
        what = ", ".join(f"{verb} {some(columns)}" for verb, columns in found.items() if len(columns))
        msg = (
            f"the columns of obsm[{rep!r}] are not those that the model was set up with: it {what}; rename them if "
            "they mean the same, or encode the query with the same encoder"
        )
        raise ValueError(msg)
    return values.take(names.get_indexer(wanted), axis=1)


def _check_encoder(adata: AnnData, rep: str, fingerprint: str | None, *, warn: bool) -> None:
    """Refuse an embedding by another encoder than that of the training data, where both tell theirs."""
    own = recorded_fingerprint(adata, rep)
    if fingerprint is None or own == fingerprint:
        return
    # an embedding, or what an encoder reads that is trained along
    way_out = f"scl.pp.encode (or scl.pp.expression)(query, encoder=encoder, key_added={rep!r})"
    if own is not None:
        msg = (
            f"obsm[{rep!r}] was made by another encoder than the one that the model was trained with, so that its "
            f"dimensions mean something else; encode both with one: encoder = scl.pp.encode(train, ...) once, then "
            f"{way_out}. Training data that were encoded again have to be set up again; if it was written otherwise "
            f"since, delete uns['semiclip'][{rep!r}]"
        )
        raise ValueError(msg)
    if warn:
        logger.warning(
            "obsm[%r] does not tell which encoder made it; the model needs the one of its training data: %s",
            rep,
            way_out,
        )


class RepresentationField(ObsmField):
    """An embedding in ``obsm`` that is dense, finite and, where ``required`` is false, absent from a query."""

    def __init__(self, registry_key: str, attr_key: str, *, required: bool = True) -> None:
        super().__init__(registry_key, attr_key, correct_data_format=False)
        self.required = required

    def validate_field(self, adata: AnnData) -> None:
        """Refuse what cannot be trained on."""
        representation(adata, self.attr_key, f"{self.registry_key}_rep")

    def _setup_column_names(self, adata: AnnData) -> list[str] | np.ndarray:
        # as scvi-tools does, without its two lines of log
        values = self.get_field_data(adata)
        return list(values.columns) if isinstance(values, pd.DataFrame) else np.arange(values.shape[1])

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Remember the columns and, of the student, which encoder made them."""
        state = super().register_field(adata)
        fingerprint = recorded_fingerprint(adata, self.attr_key) if self.registry_key == STUDENT else None
        return state if fingerprint is None else {**state, FINGERPRINT: fingerprint}

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check the target against the source, whose state is kept; an optional one may be absent."""
        if self.required or self.attr_key in adata_target.obsm:
            values = representation(adata_target, self.attr_key, f"{self.registry_key}_rep")
            as_learned(adata_target, self.attr_key, values, state_registry, warn=False)
        return state_registry


class MuDataRepresentationField(MuDataWrapper(RepresentationField)):  # type: ignore[misc]
    """The same in one modality of a MuData; an optional one may lack the whole modality."""

    def transfer_field(self, state_registry: dict[str, Any], mdata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Transfer within the modality."""
        if not self.adata_field.required and self.mod_key not in mdata_target.mod:
            return state_registry
        return super().transfer_field(state_registry, mdata_target, **kwargs)


class Manager(AnnDataManager):
    """A manager that, unlike its base, keeps the setup method for new data and the first setup of its own data."""

    def validate(self) -> None:
        """Register the data again if another setup did so since; what was known of their columns is not replaced."""
        known = dict(self._registry[_FIELD_REGISTRIES_KEY])
        super().validate()
        self._registry[_FIELD_REGISTRIES_KEY].update(known)

    def _get_setup_method_args(self) -> dict[str, Any]:
        return {**super()._get_setup_method_args(), _SETUP_METHOD_NAME: self._registry[_SETUP_METHOD_NAME]}
