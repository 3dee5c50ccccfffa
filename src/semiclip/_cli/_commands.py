"""The commands and their flags, which the list of settings gives them."""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click

from semiclip._arguments import check_choice, check_whole
from semiclip._cli._origins import Located, find_origin
from semiclip._cli._settings import KEYS, Settings, list_kinds
from semiclip._cli._toml import read_settings
from semiclip.errors import Conflict, SemiclipError
from semiclip.tl._distill import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

STUDIES = ("medium", "u2os", "rpe1_periscope", "huvec")
PATH = click.Path(path_type=Path)
overwrite_flag = click.option("--overwrite", is_flag=True, help="Replace what is there.")
data_argument = click.argument("data", type=PATH, metavar="DATA")


def take_settings(*names: str, positional: bool) -> Callable[[Any], Any]:
    """Give a command a TOML file, and flags for tables such as ``columns`` or settings such as ``columns.batch``."""
    chosen = [name for name in KEYS if KEYS[name].flag and {name, name.split(".")[0]} & {*names}]
    parameters = {name: name.replace(".", "_") for name in chosen}

    def decorate(run: Callable[..., Any]) -> Any:
        @wraps(run)
        def read_and_run(study: Path | None, **given: Any) -> Any:
            flags = {name: given.pop(parameter) for name, parameter in parameters.items()}
            settings = read_settings(study, {name: value for name, value in flags.items() if value not in (None, ())})
            try:
                return run(settings, **given)
            except SemiclipError as error:
                if origin := find_origin(error, settings.arguments):
                    raise Located(origin, error) from error
                raise

        command: Any = read_and_run
        for name in reversed(chosen):
            command = _make_option(name, parameters[name])(command)
        if positional:
            return click.argument("study", type=PATH, required=False, metavar="[STUDY.toml]")(command)
        return click.option("--study", type=PATH, metavar="STUDY.toml", help="TOML file with the settings.")(command)

    return decorate


def _make_option(name: str, parameter: str) -> Callable[[Any], Any]:
    """Return the flag of a setting; it has no default, so that it goes before the file only if it is given."""
    key, kinds = KEYS[name], list_kinds(KEYS[name].kind)
    choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    text = key.text if key.default is None else f"{key.text} ({key.default})"
    options: dict[str, Any] = {"help": f"{text[0].upper()}{text[1:]}."}
    if choices and Path not in kinds:
        options["type"] = click.Choice(choices)
    elif int in kinds:
        options["type"] = int
    elif tuple in kinds:
        options |= {"type": str, "multiple": True}
    elif bool not in kinds:
        options |= {"type": str, "metavar": "FOLDER" if key.folder else "FILE" if Path in kinds else None}
    return click.option(key.flag, parameter, default=None, **options)


@click.command(short_help="Write a template of a study.")
@click.argument("file", type=PATH, required=False, metavar="[FILE]")
@click.option("--study", type=click.Choice(STUDIES), help="One for `semiclip paper`, instead of the template.")
@overwrite_flag
def init(file: Path | None, study: str | None, *, overwrite: bool) -> None:
    """Write a commented TOML file for a study (study.toml), or one that is ready, under its name."""
    from semiclip._cli._work import write_template

    write_template(file or Path(f"{study or 'study'}.toml"), study, overwrite=overwrite)


@click.command(short_help="Look for mistakes in a study.")
@take_settings("data", "columns", "student.rep", "teacher.rep", positional=True)
def check(settings: Settings) -> int:
    """Look for the usual mistakes in two modalities, and say how they pair.

    Exit status 1 says that something is wrong.
    """
    from semiclip._cli._work import check_study

    return check_study(settings)


@click.command(short_help="Distil images into expression.")
@take_settings("data", "columns", "student", "teacher", "training", "output", positional=True)
@overwrite_flag
def train(settings: Settings, *, overwrite: bool) -> None:
    """Distil the images into the expression.

    The result folder gets the model, its encoder if one was fitted, and settings.toml: all settings, with the versions
    of the packages. A training that was interrupted goes on from its last epoch when the same command runs again.
    """
    from semiclip._cli._work import train_study

    train_study(settings, overwrite=overwrite)


@click.command(short_help="Embed samples with a model.")
@click.argument("model", type=PATH)
@data_argument
@click.option("--out", type=PATH, required=True, help="File for the samples with their embedding.")
@click.option("--key-added", help="Key of obsm for the embedding (X_semiclip).")
@click.option("--perturbation", help="Column of the perturbations, if not that of training.")
@click.option(
    "--control", multiple=True, help='Label or labels of the controls, if not those of training; "" for none.'
)
@click.option("--batch", help='Column of the batches, if not that of training; "" for none.')
@overwrite_flag
def embed(
    model: Path,
    data: Path,
    out: Path,
    key_added: str | None,
    perturbation: str | None,
    control: tuple[str, ...],
    batch: str | None,
    *,
    overwrite: bool,
) -> None:
    """Embed the samples of DATA with MODEL, a result folder of `semiclip train` or a saved model."""
    from semiclip._cli._work import embed_samples

    columns: dict[str, Any] = {}
    if perturbation is not None:
        columns["perturbation_key"] = perturbation
    if control:
        columns["control"] = tuple(filter(None, control)) or None
    if batch is not None:
        columns["batch_key"] = batch or None
    origins = {name: f"--{name.removesuffix('_key')}" for name in columns} | {"key_added": "--key-added"}
    try:
        embed_samples(model, data, out, key_added=key_added, columns=columns, overwrite=overwrite)
    except SemiclipError as error:
        if origin := find_origin(error, origins):
            raise Located(origin, error) from error
        raise


JUDGED = [f"columns.{key}" for key in ("perturbation", "control", "batch")]
JUDGED += [f"evaluation.{key}" for key in ("rep", "modality", "relationships", "permutations", "seed")]


@click.command(short_help="Measure recall of known relationships.")
@data_argument
@take_settings(*JUDGED, positional=False)
@click.option("--out", type=PATH, default="recall.csv", help="Table to write (recall.csv).")
@overwrite_flag
def evaluate(settings: Settings, data: Path, out: Path, *, overwrite: bool) -> None:
    """Count known gene relationships that embeddings of DATA recall, after TVN and after centring."""
    from semiclip._cli._work import evaluate_samples

    evaluate_samples(settings, data, out, overwrite=overwrite)


@click.command(short_help="Write a page on recalled relationships.")
@data_argument
@take_settings(*JUDGED, "evaluation.gene_sets", positional=False)
@click.option("--out", type=PATH, default="report.html", help="Page to write (report.html).")
@overwrite_flag
def report(settings: Settings, data: Path, out: Path, *, overwrite: bool) -> None:
    """Write one HTML page on the gene relationships that embeddings of DATA recall."""
    from semiclip._cli._work import report_samples

    report_samples(settings, data, out, overwrite=overwrite)


@click.command(short_help="Demonstrate the method.")
@click.option("--out", type=PATH, default="semiclip_demo", help="Folder for the results (semiclip_demo).")
@click.option("--encoder", type=click.Choice(["pca", "scvi"]), default="pca", help="Of the expression (pca).")
@click.option("--seed", type=int, default=0, help="Of simulation, encoder and training (0).")
@click.option("--recipe", type=click.Choice(get_args(Recipe)), default="shared", help="Of scl.tl.semiclip (shared).")
@click.option("--epochs", type=int, help="Training epochs (those of the recipe).")
@click.option("--real", is_flag=True, help="Train on real U2OS compounds and embed real overexpression wells instead.")
def demo(out: Path, encoder: str, seed: int, recipe: Recipe, epochs: int | None, *, real: bool) -> None:
    """Run the whole method on simulated or real data, and measure what it recalls.

    Distil images into expression, embed perturbations that the model has never seen, and measure how many known gene
    relationships the embedding recalls.
    """
    from semiclip._cli._demo import Arguments, demonstrate
    from semiclip._cli._work import quiet_trainer

    if real and encoder == "scvi":
        way_out = "the real data are L1000 z-scores, not counts: scVI cannot encode them, use --encoder pca"
        raise Conflict("--real", "--encoder scvi", way_out)
    if epochs is not None:
        check_whole("--epochs", epochs)
    check_whole("--seed", seed, 0)
    quiet_trainer()
    demonstrate(Arguments(out, encoder, seed, recipe, epochs, real))


@click.command(short_help="Make the tables and figures of the paper.")
@take_settings("paper.seeds", "output", positional=True)
@click.argument("more", nargs=-1, metavar="")
@click.option("--only", multiple=True, metavar="PART …", help="Tables and figures to make, such as table1 figure4.")
@click.option("--jobs", type=click.IntRange(1), help="Processes of one thread each (as many as there are cores).")
@click.option("--quick", is_flag=True, help="Few seeds and epochs, for a look at the pages.")
@overwrite_flag
def paper(
    settings: Settings, more: tuple[str, ...], only: tuple[str, ...], jobs: int | None, *, quick: bool, overwrite: bool
) -> None:
    """Make Tables 1 to 3 and Figures 1 to 7 of the paper from the data of a study, and a page that shows them.

    What was interrupted goes on where it was, and a study that was changed makes only what is new.
    """
    from semiclip._cli._paper._command import make_paper
    from semiclip._cli._paper._parts import PARTS

    names = list(dict.fromkeys((*only, *more)))
    for name in names:
        check_choice("--only", name, PARTS)
    make_paper(settings, names, jobs or os.cpu_count() or 1, quick=quick, overwrite=overwrite)


COMMANDS: list[click.Command] = [init, check, train, embed, evaluate, report, paper, demo]
