"""What is private in scvi-tools, or differs from it: true for 1.4.2 to 1.5.1."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import anndata
import mudata
import numpy as np
import pandas as pd
import rich.pretty  # noqa: F401  # scvi-tools 1.4 prints with it without importing it, which rich 15 no longer forgives
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data._constants import _FIELD_REGISTRIES_KEY as FIELDS
from scvi.data._constants import _SCVI_UUID_KEY as DATA_ID
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS
from scvi.data._constants import _SETUP_METHOD_NAME as SETUP_METHOD
from scvi.data._constants import _STATE_REGISTRY_KEY as STATE
from scvi.data.fields import MuDataWrapper, ObsmField
from scvi.model._utils import parse_device_args
from scvi.model.base import BaseModelClass
from scvi.train import SaveCheckpoint, TrainRunner
from scvi.utils import setup_anndata_dsp
from scvi.utils._docstrings import devices_dsp

from semiclip import errors
from semiclip._checks import read_representation
from semiclip._damage import say_reason
from semiclip._design import MODALITIES, STUDENT
from semiclip._messages import is_watched
from semiclip._mudata import make_mudata, silence_mudata
from semiclip._provenance import recorded_fingerprint
from semiclip._sides import FINGERPRINT, check_representation, match_columns
from semiclip._storage import load_folder, save_folder
from semiclip.errors._base import remembered

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from anndata import AnnData
    from lightning import LightningModule, Trainer
    from mudata import MuData

logger = logging.getLogger(__name__)

__all__ = [
    "DATA_ID",
    "FIELDS",
    "SETUP_ARGS",
    "SETUP_METHOD",
    "STATE",
    "Manager",
    "MuDataRepresentationField",
    "RepresentationField",
    "Runner",
    "SafeModel",
    "choose_progress",
    "all_or_nothing",
    "devices_dsp",
    "keep_checkpoints",
    "parse_device_args",
    "split_callbacks",
    "setup_anndata_dsp",
]


class RepresentationField(ObsmField):
    """An embedding in ``obsm`` that is dense, finite and, where ``required`` is false, absent from a query."""

    def __init__(self, registry_key: str, attr_key: str, *, required: bool = True) -> None:
        super().__init__(registry_key, attr_key, correct_data_format=False)
        self.required = required

    def validate_field(self, adata: AnnData) -> None:
        """Refuse what cannot be trained on."""
        check_representation(adata, self.attr_key, f"{self.registry_key}_rep")

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
            match_columns(adata_target, self.attr_key, values, state_registry, is_query=False)
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
        return {**super()._get_setup_method_args(), SETUP_METHOD: self._registry[SETUP_METHOD]}


PICKLE = "model.pt"  # what scvi-tools writes, and this package before 0.2
DATA = {"setup_mudata": ("mdata.h5mu", mudata.read_h5mu), "setup_anndata": ("adata.h5ad", anndata.read_h5ad)}


class SafeModel(BaseModelClass):
    """A model that is saved as JSON and safetensors, with the arguments of scvi-tools: loading it runs nothing."""

    registry_: dict[str, Any]

    def save(
        self,
        dir_path: str | os.PathLike[str],
        prefix: str | None = None,
        overwrite: bool = False,  # noqa: FBT001, FBT002  # as in scvi-tools
        save_anndata: bool = False,  # noqa: FBT001, FBT002
        save_kwargs: None = None,
        legacy_mudata_format: bool = False,  # noqa: FBT001, FBT002
        datamodule: None = None,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Save the model in a folder: ``model.json``, a file of weights and, if asked for, the data.

        An earlier model is replaced in one step: whenever the process dies, the folder holds the old model or the new
        one, each with the data that were saved with it.

        Parameters
        ----------
        dir_path
            The folder, which is made.
        prefix
            Put before the names of the files, so that several models share a folder.
        overwrite
            Whether to replace a saved model. A folder that holds other things and no model is refused either way.
        save_anndata
            Whether to save the data too, for :meth:`load` to read.
        save_kwargs, legacy_mudata_format, datamodule
            Arguments of scvi-tools without effect here.
        **anndata_write_kwargs
            Arguments of the data's ``write``.

        Raises
        ------
        FileExistsError
            If the folder is not empty, unless it holds a saved model and ``overwrite=True``.
        """
        data = None
        if save_anndata:
            if self.adata is None:
                raise errors.NoData("model", "leave out save_anndata")
            data = DATA[self.registry_[SETUP_METHOD]][0], partial(self.adata.write, **anndata_write_kwargs)
        contents = {
            "class": type(self).__name__,
            "versions": {name: version(name) for name in ("semiclip", "scvi-tools", "torch")},
            "attributes": {name: value for name, value in self._get_user_attributes() if name.endswith("_")},
            "weights": dict(self.module.state_dict()),
        }
        replaces = [PICKLE, *(name for name, _ in DATA.values())]
        with silence_mudata():
            save_folder(
                dir_path, "model", contents, prefix=prefix or "", overwrite=overwrite, replaces=replaces, data=data
            )

    @classmethod
    @devices_dsp.dedent
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: AnnData | MuData | Literal[False] | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: None = None,
        datamodule: None = None,
        allowed_classes_names_list: list[str] | None = None,
    ) -> Self:
        """Load a model that :meth:`save` saved. Nothing in the files is run, whoever made them.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            Data to embed or to train on, with the columns of the setup: a MuData, or the AnnData of the student.
            ``None`` is the data that were saved with the model, if any; ``False`` is no data.
        %(param_accelerator)s
        %(param_device)s
        prefix
            As in :meth:`save`.
        backup_url, datamodule
            Arguments of scvi-tools that are refused here.
        allowed_classes_names_list
            Names of other classes whose files are read.

        Raises
        ------
        FileNotFoundError
            If there is no saved model.
        ValueError
            If a file is damaged, of another class, or a pickle of a version before 0.2.
        """
        if not backup_url is datamodule is None:
            raise errors.IdleArgument(["backup_url", "datamodule"], "here", "load from a folder on this machine")
        contents, path = _read_model(dir_path, prefix)
        with _name_folder(dir_path):
            if contents["class"] not in [cls.__name__, *(allowed_classes_names_list or [])]:
                way_out = f"load it with scl.model.{contents['class']}.load"
                raise errors.Mismatch("the class of the model", contents["class"], cls.__name__, way_out)
            attributes = contents["attributes"]
            registry, init_params = attributes.pop("registry_"), attributes.pop("init_params_")
            method, setup_args = registry[SETUP_METHOD], registry[SETUP_ARGS]
            _, read = DATA[method]
            if adata is None and path is not None:
                with silence_mudata():
                    adata = read(path)
            if isinstance(adata, anndata.AnnData) and method == "setup_mudata":
                adata = make_mudata(**{{**MODALITIES, **(setup_args["modalities"] or {})}[STUDENT]: adata})
            adata = None if adata is False else adata
            if adata is not None:
                with remembered("the model", setup_args):
                    getattr(cls, method)(adata, source_registry=registry, **setup_args)
            more = {name: value for part in init_params["kwargs"].values() for name, value in part.items()}
            model = cls(adata, registry=registry, **init_params["non_kwargs"], **more)
            for name in (name for name in attributes if name.endswith("_") and not name.startswith("_")):
                setattr(model, name, attributes[name])
            model.module.on_load(model)
            model.module.load_state_dict(contents["weights"])
        *_, torch_device = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
        model.to_device(torch_device)
        model.module.eval()
        if adata is not None:
            model._validate_anndata(adata)
        return model

    @classmethod
    def load_registry(cls, dir_path: str | os.PathLike[str], prefix: str | None = None) -> dict[str, Any]:
        """Return the registry of a saved model: how its data were set up."""
        contents, _ = _read_model(dir_path, prefix)
        with _name_folder(dir_path):
            return contents["attributes"]["registry_"]

    @classmethod
    def view_setup_args(cls, dir_path: str | os.PathLike[str], prefix: str | None = None) -> None:
        """Print how the data of a saved model were set up."""
        AnnDataManager.view_setup_method_args(cls.load_registry(dir_path, prefix))

    @classmethod
    def convert_legacy_save(cls, *args: Any, **kwargs: Any) -> None:
        """Refuse, since it would unpickle: no model of this package is of scvi-tools before 0.15."""
        raise NotImplementedError(cls.convert_legacy_save.__doc__)


def _read_model(folder: str | os.PathLike[str], prefix: str | None) -> tuple[dict[str, Any], Path | None]:
    """Return the contents of a saved model and the path of its data, if it has any."""
    index, pickle = (Path(folder, f"{prefix or ''}{name}") for name in ("model.json", PICKLE))
    if pickle.exists() and not index.exists():
        way_out = "train the model again and save it; the version that wrote it can open it, if you trust the file"
        raise errors.DamagedFile(pickle, "it is a pickle, which can run code", way_out)
    return load_folder(folder, "model", prefix=prefix or "")


@contextmanager
def _name_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Say which folder is to blame for an error that is not about the data."""
    try:
        yield
    except (errors.SemiclipError, OSError):
        raise
    except Exception as error:  # its checksums were right: it was made like this, or by another version
        raise errors.DamagedFile(folder, say_reason(error), "train the model again and save it") from error


def split_callbacks(callbacks: Callback | Iterable[Callback] | None) -> tuple[list[Callback], list[Checkpoint]]:
    """Return callbacks for the trainer to be made with, and Lightning's checkpoints to be added afterwards.

    scvi-tools takes these only beside one that saves models in its log folder.
    """
    callbacks = [callbacks] if isinstance(callbacks, Callback) else [*(callbacks or [])]
    added = [call for call in callbacks if isinstance(call, Checkpoint) and not isinstance(call, SaveCheckpoint)]
    return [call for call in callbacks if call not in added], added


@contextmanager
def keep_checkpoints(callbacks: Iterable[Any], model: Any) -> Iterator[None]:
    """Load what scvi-tools' checkpoints kept when training ends or fails: they would look for a pickle."""
    checkpoints = [callback for callback in callbacks if isinstance(callback, SaveCheckpoint)]
    flags = [(callback.load_best_on_end, callback.check_nan_gradients) for callback in checkpoints]
    for callback in checkpoints:
        callback.load_best_on_end = callback.check_nan_gradients = False
    failed = True
    try:
        yield
        failed = False
    finally:
        for callback, (load_best_on_end, check_nan_gradients) in zip(checkpoints, flags, strict=True):
            callback.load_best_on_end, callback.check_nan_gradients = load_best_on_end, check_nan_gradients
            if callback.best_model_path and (check_nan_gradients if failed else load_best_on_end):
                model.module.load_state_dict(load_folder(callback.best_model_path, "model")[0]["weights"])


class Runner(TrainRunner):
    """scvi-tools' runner, without what it prints of an error: a wrong type, and no more than the traceback."""

    def _run_training_core(self) -> None:
        self.trainer.fit(self.training_plan, self.data_splitter, ckpt_path=self.ckpt_path)
        self._update_history()
        self.model.train_indices = self.data_splitter.train_idx
        self.model.validation_indices = self.data_splitter.val_idx
        self.model.test_indices = self.data_splitter.test_idx
        self.model.module.eval()
        self.model.is_trained_ = True
        self.model.to_device(self.device)
        self.model.trainer = self.trainer


@contextmanager
def all_or_nothing(model: Any) -> Iterator[None]:
    """Leave the model as it was if training does not end, and let signals do what they do elsewhere.

    Lightning turns Ctrl-C into an exit of the process, a termination into an exit without an error, and may leave other
    handlers than there were.
    """
    module, attributes = deepcopy(model.module), {**vars(model)}
    if isinstance(attributes["history_"], dict):  # which scvi-tools changes in place
        attributes["history_"] = {**attributes["history_"]}
    terminated, in_main_thread = False, threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException as error:
        vars(model).clear()
        vars(model).update(attributes, module=module)
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt("training was interrupted, and the model is as it was before") from None
        terminated = isinstance(error, SIGTERMException)
        raise
    finally:
        if in_main_thread:
            for number, handler in handlers.items():
                if handler is not None:  # one that Python does not know of stays
                    signal.signal(number, handler)
            if terminated and handlers[signal.SIGTERM] is signal.SIG_DFL:
                signal.raise_signal(signal.SIGTERM)


LINES = 10  # of a training, where there is no bar


class ProgressLines(Callback):
    """Logs the losses now and then, for output that is no terminal: a bar would leave a line for each refresh."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log every tenth part of all epochs."""
        epoch, n_epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if trainer.is_global_zero and (epoch == n_epochs or epoch % -(-n_epochs // LINES) == 0):
            losses = {name: float(value) for name, value in trainer.callback_metrics.items() if name.endswith("loss")}
            logger.info("epoch %d of %d: %s", epoch, n_epochs, ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))


def choose_progress(trainer_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of the trainer with lines in place of the bar where nobody can see a bar move."""
    if is_watched() or not trainer_kwargs.get("enable_progress_bar", True):
        return {**trainer_kwargs}
    callbacks = [*trainer_kwargs.get("callbacks", []), ProgressLines()]
    return {**trainer_kwargs, "enable_progress_bar": False, "callbacks": callbacks}
