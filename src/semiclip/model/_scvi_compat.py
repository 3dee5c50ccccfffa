"""What is private in scvi-tools, or differs from it: true for 1.4.2 to 1.5.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rich.pretty  # noqa: F401  # scvi-tools 1.4 prints with it without importing it, which rich 15 no longer forgives
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data._constants import _FIELD_REGISTRIES_KEY as FIELDS
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS
from scvi.data._constants import _SETUP_METHOD_NAME
from scvi.data._constants import _STATE_REGISTRY_KEY as STATE
from scvi.data.fields import MuDataWrapper, ObsmField
from scvi.utils import setup_anndata_dsp
from scvi.utils._docstrings import devices_dsp

from semiclip._checks import read_representation
from semiclip._design import STUDENT
from semiclip._provenance import recorded_fingerprint
from semiclip._sides import FINGERPRINT, match_columns

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = [
    "FIELDS",
    "SETUP_ARGS",
    "STATE",
    "Manager",
    "MuDataRepresentationField",
    "RepresentationField",
    "devices_dsp",
    "setup_anndata_dsp",
]


class RepresentationField(ObsmField):
    """An embedding in ``obsm`` that is dense, finite and, where ``required`` is false, absent from a query."""

    def __init__(self, registry_key: str, attr_key: str, *, required: bool = True) -> None:
        super().__init__(registry_key, attr_key, correct_data_format=False)
        self.required = required

    def validate_field(self, adata: AnnData) -> None:
        """Refuse what cannot be trained on."""
        read_representation(adata, self.attr_key, f"{self.registry_key}_rep")

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
        """Check the target against the source, whose state is kept; an optional representation may be absent."""
        if self.required or self.attr_key in adata_target.obsm:
            values = read_representation(adata_target, self.attr_key, f"{self.registry_key}_rep")
            match_columns(adata_target, self.attr_key, values, state_registry, warn=False)
        return state_registry


class MuDataRepresentationField(MuDataWrapper(RepresentationField)):  # type: ignore[misc]
    """The same in one modality of a MuData; an optional representation may lack the whole modality."""

    def transfer_field(self, state_registry: dict[str, Any], mdata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Transfer within the modality."""
        if not self.adata_field.required and self.mod_key not in mdata_target.mod:
            return state_registry
        return super().transfer_field(state_registry, mdata_target, **kwargs)


class Manager(AnnDataManager):
    """A manager that, unlike its base, keeps the setup method for new data and the first setup of its own data."""

    def __init__(self, fields: list[Any], setup_method_args: dict[str, Any], validation_checks: Any = None) -> None:
        # the modalities have different observations: that is the normal case here
        checks = validation_checks or AnnDataManagerValidationCheck(check_fully_paired_mudata=False)
        super().__init__(fields, setup_method_args, validation_checks=checks)

    def validate(self) -> None:
        """Register the data again if another setup did so since; what was known of their columns is not replaced."""
        states = dict(self._registry[FIELDS])
        super().validate()
        self._registry[FIELDS].update(states)

    def _get_setup_method_args(self) -> dict[str, Any]:
        return {**super()._get_setup_method_args(), _SETUP_METHOD_NAME: self._registry[_SETUP_METHOD_NAME]}
