"""A training under way: it lies in a folder beside its result until it is whole, and an interrupted one goes on."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only

from semiclip._cli._files import write_text
from semiclip._cli._record import RESOLVED
from semiclip._storage import write_file
from semiclip.errors import FileExists, SemiclipError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lightning import LightningModule, Trainer

# what the folder of a training under way holds, beside its encoder
ASKED, CHECKPOINT, RESULT = "asked.toml", "last.ckpt", "result"


class SaveProgress(Checkpoint):
    """Saves a training after each epoch, with what Lightning leaves out: the curves, and torch's random numbers.

    Parameters
    ----------
    path
        The checkpoint, which is replaced in one step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.curves: dict[str, dict[str, list[Any]]] = {}
        self.random: torch.Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return plain values alone, so that the checkpoint is read without running code."""
        return {"curves": self.curves, "random": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what a checkpoint says until training starts."""
        self.curves, self.random = state_dict["curves"], state_dict["random"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what would have been drawn."""
        if self.random is not None:
            torch.set_rng_state(self.random)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epochs before the interruption, also where none is left."""
        if trainer.logger is not None:
            for name, curve in self.curves.items():
                for epoch, value in zip(curve["epochs"], curve["values"], strict=True):
                    trainer.logger.log_metrics({name: value, "epoch": epoch}, step=epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch."""
        if not trainer.is_global_zero:  # another process, which takes part and writes nothing
            trainer.save_checkpoint(self.path, weights_only=False)
            return
        if trainer.logger is not None:
            self._read_curves(trainer, pl_module)
        write_file(self.path, lambda path: trainer.save_checkpoint(path, weights_only=False))

    def _read_curves(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep the curves, of which Lightning has logged those of validation and is about to log the loss."""
        history, loss = getattr(trainer.logger, "history", {}), pl_module.curve
        self.curves = {
            name: {"epochs": list(curve.index), "values": curve[name].tolist()} for name, curve in history.items()
        }
        curve = self.curves.setdefault(loss, {"epochs": [], "values": []})
        curve["epochs"].append(trainer.current_epoch)
        curve["values"].append(float(trainer.callback_metrics[loss]))


@contextmanager
def open_unfinished(folder: Path, asked: str) -> Iterator[Path]:
    """Give the folder beside ``folder`` in which its result is made, with what an interrupted call left there.

    ``asked`` says all that the result depends on: what was made for something else is removed. So is what a mistake
    leaves before the first epoch; whatever else ends a training, the same call goes on from its last epoch.
    """
    place = folder.resolve()
    work = place.with_name(f"{place.name}.unfinished")
    mark = work / ASKED
    others = [path for path in work.iterdir() if not path.name.endswith(".partial")] if work.is_dir() else []
    if others and not mark.is_file():
        raise FileExists(work, "remove or rename it: an unfinished training would go there")
    if mark.is_file() and mark.read_text(encoding="utf-8") != asked:
        print(f"{work.name} is of other settings, data or versions: training begins anew")
        _remove(work)
    write_text(mark, asked)
    try:
        yield work
    except BaseException as error:
        if (work / CHECKPOINT).is_file() or not isinstance(error, SemiclipError):
            print(f"{work} holds what was done so far; the same command goes on from there")
        else:
            _remove(work)
        raise


def find_checkpoint(work: Path) -> dict[str, Any]:
    """Return arguments that make training go on from the last epoch, if there is one that can be read."""
    path = work / CHECKPOINT
    if not path.is_file():
        return {}
    try:  # no pickle of a stranger's folder is opened
        epoch = torch.load(path, map_location="cpu", weights_only=True)["epoch"]
    except Exception:  # noqa: BLE001  # a damaged file raises anything
        print(f"{path} cannot be read: training begins anew")
        path.unlink()
        return {}
    print(f"training goes on after epoch {epoch + 1}")
    return {"ckpt_path": str(path)}


def publish(work: Path, folder: Path, save: Callable[[Path], None]) -> None:
    """Save a result, which is there as a whole or not at all, and remove what lies in ``work``.

    A new folder appears in one step. In one that exists, the settings go first and come last: without them it is none.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:  # of several processes, one for each device
        return
    if folder.exists():
        (folder / RESOLVED).unlink(missing_ok=True)
        save(folder)
    else:
        save(work / RESULT)
        (work / RESULT).rename(folder.resolve())
    _remove(work)
    print(f"written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(work: Path) -> None:
    """Remove an unfinished training; the file that says whose it is goes last."""
    for path in list(work.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ASKED:
            path.unlink()
    (work / ASKED).unlink()
    work.rmdir()
