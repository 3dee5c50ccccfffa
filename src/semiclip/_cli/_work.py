"""What the commands do: read the files of a study, call the public functions, and write what they return."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import semiclip as scl
from semiclip._checks import get_modality, read_column, read_representation
from semiclip._cli._files import (
    REPLACE,
    check_new,
    check_there,
    read_judged,
    read_relationships,
    read_samples,
    read_study,
    write_samples,
    write_text,
)
from semiclip._cli._judge import format_tables, judge, show_recall
from semiclip._cli._record import (
    ENCODER,
    MODEL,
    RESOLVED,
    forget_record,
    format_record,
    prepare_record,
    resolve_training,
    write_record,
)
from semiclip._cli._toml import read_settings
from semiclip._messages import announce_loading
from semiclip._storage import remove_folder, write_file
from semiclip.errors import Conflict, FileExists, MissingFile, UnexpectedArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from semiclip._cli._settings import Settings

TEMPLATE = Path(__file__).with_name("study.toml")
TRAINED_BY = ("data", "columns", "student", "teacher", "training", "output")  # the settings that training reads
DATA = "DATA"  # how the argument of a command is called


def write_template(path: Path, study: str | None, *, overwrite: bool) -> None:
    """Write a commented TOML file to fill in, or a study that is ready."""
    check_new(path, "FILE", overwrite=overwrite)
    source = TEMPLATE if study is None else TEMPLATE.with_name("studies") / f"{study}.toml"
    write_text(path, source.read_text(encoding="utf-8"))
    print(f"written to {path}")


def check_study(settings: Settings) -> int:
    """Print what :func:`semiclip.pp.check` and :func:`semiclip.pp.pair` say; 1 if something is wrong."""
    columns = _read_columns(settings)
    split = columns.pop("split_key")
    mdata = read_study(settings)
    findings = scl.pp.check(mdata, **columns)
    for finding in findings.itertuples():
        print(f"{finding.severity}: {finding.modality}: {finding.finding}\n      mend: {finding.mend}")
        if finding.code:
            print(f"      code: {finding.code}")
    summary = scl.pp.pair(mdata, **columns).attrs["summary"]
    print("\n".join(f"{name}: {number:,}" for name, number in summary.items()))
    _check_reps(mdata, settings)
    if split is not None:
        read_column(get_modality(mdata, str(settings.student.modality)), split, "split_key")
    n_errors = int((findings["severity"] == "error").sum())
    print("nothing stands in the way of training" if not n_errors else f"{n_errors} finding(s) to mend before training")
    return int(n_errors > 0)


def train_study(settings: Settings, *, overwrite: bool) -> None:
    """Train a model, and write it to the result folder with its encoder and the resolved settings.

    An interrupted training goes on from its last epoch.
    """
    announce_loading()
    from semiclip._cli._free_tables import check_free_tables
    from semiclip._cli._unfinished import CHECKPOINT, SaveProgress, find_checkpoint, hash_file, open_unfinished, publish

    folder, training = settings.need("output.folder"), settings.training
    if folder.exists() and not folder.is_dir() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise FileExists(f"{folder} ({settings.name_origin('output.folder')})", REPLACE)
    student_rep = settings.student.rep or f"X_{settings.need('student.encoder')}"
    arguments = {
        **_read_columns(settings),
        "student_rep": student_rep,
        "teacher_rep": settings.need("teacher.rep"),
        "recipe": training.recipe,
        "max_epochs": training.epochs,
        "pea": training.pea,
        "rng": training.seed,
        "model_kwargs": training.model,
        "plan_kwargs": training.plan,
    }
    arguments |= _pass_on(settings, "training.options", arguments)
    encoding = {"encoder": settings.student.encoder, "key_added": student_rep}
    encoding |= {**_seed_encoder(settings), **_pass_on(settings, "student.options", encoding)}
    quiet_trainer()
    check_free_tables(settings)
    mdata = read_study(settings)
    _check_reps(mdata, settings)
    tables = {name: table for name, table in settings.tables.items() if name in TRAINED_BY}
    files = {str(path): hash_file(path) for path in settings.tables["data"].values() if isinstance(path, Path)}
    asked = format_record({**{name: table for name, table in tables.items() if name != "output"}, "files": files})
    with open_unfinished(folder, asked) as work:
        encoder = _encode_student(mdata, settings, encoding, work / ENCODER)
        going_on = {"callbacks": [SaveProgress(work / CHECKPOINT)], **find_checkpoint(work)}
        model = scl.tl.semiclip(mdata, **{**arguments, **going_on})
        tables["training"] = resolve_training(settings, model.train_params_)

        def save(result: Path) -> None:
            if encoder is None:  # one of an earlier result does not belong to this model
                remove_folder(result / ENCODER, ENCODER)
            else:
                encoder.save(result / ENCODER, overwrite=True)
            model.save(str(result / MODEL), overwrite=True)
            write_text(result / RESOLVED, format_record(tables))

        publish(work, folder, save)


def embed_samples(
    folder: Path, data: Path, out: Path, *, key_added: str | None, columns: Mapping[str, Any], overwrite: bool
) -> None:
    """Embed samples with a trained model, and with its encoder where they lack the embedding that it reads."""
    prepare_record(out, overwrite=overwrite)
    if not folder.is_dir():
        raise MissingFile(f"{folder} (MODEL)", "name a result folder of semiclip train, or a saved model")
    samples = read_samples(data, DATA)
    if out.suffix != data.suffix:
        raise Conflict(f"--out {out}", f"{data}", f"the result is an {data.suffix} file too")
    if (folder / MODEL).is_dir():
        if not (folder / RESOLVED).is_file():
            way_out = "the training that should have written it did not end: run it again"
            raise MissingFile(f"{RESOLVED} in {folder} (MODEL)", way_out)
        folder = folder / MODEL
    model = scl.model.SemiClip.load(folder, adata=False)
    trained = _read_trained(folder)
    student, rep = model.design.side(samples, "student"), model.representations["student_rep"]
    if rep not in student.obsm and "encoder" in trained.get("student", {}):
        scl.pp.encode(student, encoder=scl.encoders.load(folder.parent / ENCODER), key_added=rep)
    scl.tl.embed(samples, model, key_added=key_added, **columns)
    forget_record(out)
    write_samples(samples, out)
    given = {name: "" if value is None else value for name, value in columns.items()}  # as the flags say it
    write_record(out, {"name": "embed", "model": folder, "data": data, "key_added": key_added, **given}, trained)
    print(f"written to {out}")


def evaluate_samples(settings: Settings, data: Path, out: Path, *, overwrite: bool) -> None:
    """Write and print recall of representations, after TVN and after centring."""
    prepare_record(out, overwrite=overwrite)
    reps, arguments = _read_evaluation(settings)
    adata = read_judged(data, DATA, settings)
    tables = judge(adata, reps, **arguments)
    forget_record(out)
    write_text(out, format_tables(tables))
    write_record(out, {"name": "evaluate", "data": data}, _list_evaluation(settings))
    show_recall(tables, data.name, {})
    print(f"written to {out}")


def report_samples(settings: Settings, data: Path, out: Path, *, overwrite: bool) -> None:
    """Write the page of :func:`semiclip.report`."""
    prepare_record(out, overwrite=overwrite)
    gene_sets = settings.evaluation.gene_sets
    check_there(gene_sets, settings.name_origin("evaluation.gene_sets"))
    reps, arguments = _read_evaluation(settings)
    adata = read_judged(data, DATA, settings)
    out.parent.mkdir(parents=True, exist_ok=True)

    def write(path: Path) -> None:
        scl.report(adata, path, use_rep=reps, **arguments, gene_sets=gene_sets)
        forget_record(out)

    write_file(out, write)
    write_record(out, {"name": "report", "data": data}, _list_evaluation(settings))
    print(f"written to {out}")


def quiet_trainer() -> None:
    """Leave out what Lightning says about the machine; its progress bar stays."""
    import lightning.pytorch  # noqa: F401  # sets its logger's level when it is imported

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def _read_columns(settings: Settings) -> dict[str, Any]:
    """Return what the columns mean; ``pair_on`` and ``control`` must be given."""
    for name in ("columns.pair_on", "columns.control"):
        settings.need(name)
    return settings.pairing


def _read_evaluation(settings: Settings) -> tuple[list[str], dict[str, Any]]:
    """Return the representations to judge, and the other arguments that recall and report share."""
    arguments = {
        "perturbation_key": settings.need("columns.perturbation"),
        "control": settings.need("columns.control") or None,
        "batch_key": settings.columns.batch,
        "unlabelled": settings.columns.unlabelled,
        "relationships": read_relationships(settings),
        "n_permutations": settings.evaluation.permutations,
        "rng": settings.evaluation.seed,
    }
    return list(settings.need("evaluation.rep")), arguments


def _check_reps(mdata: MuData, settings: Settings) -> None:
    """Refuse embeddings that are not there before anything long begins."""
    for side, part in (("student", settings.student), ("teacher", settings.teacher)):
        if part.rep is not None:
            read_representation(get_modality(mdata, str(part.modality)), part.rep, f"{side}_rep")


def _pass_on(settings: Settings, name: str, taken: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a free table, none of which may be a setting of its own."""
    options = settings.get(name) or {}
    if doubled := [option for option in options if option in taken]:
        problem, way_out = f"{doubled[0]!r} is a setting of its own", "semiclip init writes all settings"
        raise UnexpectedArgument(settings.name_origin(name), doubled, problem, way_out)
    return options


def _seed_encoder(settings: Settings) -> dict[str, Any]:
    """Return the seed for an encoder that takes one."""
    kind = scl.encoders.ENCODERS.get(str(settings.student.encoder))
    return {"rng": settings.training.seed} if kind and "rng" in inspect.signature(kind).parameters else {}


def _encode_student(mdata: MuData, settings: Settings, encoding: dict[str, Any], path: Path) -> Any:
    """Encode the expression, if an encoder is named, with the one of an interrupted call if it had fitted one."""
    if settings.student.encoder is None:
        return None
    student = get_modality(mdata, str(settings.student.modality))
    if path.is_dir():
        return scl.pp.encode(student, encoder=scl.encoders.load(path), key_added=encoding["key_added"])
    encoder: Any = scl.pp.encode(student, **encoding)
    encoder.save(path)
    return encoder


def _list_evaluation(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings that say how representations were judged."""
    return {name: table for name, table in settings.tables.items() if name in ("columns", "evaluation")}


def _read_trained(model: Path) -> dict[str, dict[str, Any]]:
    """Return the settings that stand beside a model, if it is that of a result folder."""
    path = model.parent / RESOLVED
    tables = read_settings(path, {}).tables if model.name == MODEL and path.is_file() else {}
    return {name: table for name, table in tables.items() if name != "evaluation"}
