"""How scvi-tools finds the two representations, and that a query needs only one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.data import AnnDataManager
from scvi.data._constants import _SETUP_METHOD_NAME
from scvi.data.fields import MuDataWrapper, ObsmField

from semiclip._checks import representation

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

STUDENT, TEACHER = "student", "teacher"


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

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check the target's width against the source's, or keep the source's state if there is nothing to check."""
        if not self.required and self.attr_key not in adata_target.obsm:
            return state_registry
        super().transfer_field(state_registry, adata_target, **kwargs)
        return state_registry


class MuDataRepresentationField(MuDataWrapper(RepresentationField)):  # type: ignore[misc]
    """The same in one modality of a MuData; an optional one may lack the whole modality."""

    def transfer_field(self, state_registry: dict[str, Any], mdata_target: MuData, **kwargs: Any) -> dict[str, Any]:
        """Transfer within the modality."""
        if not self.adata_field.required and self.mod_key not in mdata_target.mod:
            return state_registry
        return super().transfer_field(state_registry, mdata_target, **kwargs)


class Manager(AnnDataManager):
    """A manager that, unlike its base, remembers the setup method when it is transferred to new data."""

    def _get_setup_method_args(self) -> dict[str, Any]:
        return {**super()._get_setup_method_args(), _SETUP_METHOD_NAME: self._registry[_SETUP_METHOD_NAME]}
