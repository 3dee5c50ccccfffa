"""The wording of every error, in one place: `errors.txt` is what users read."""

from __future__ import annotations

import builtins
import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest

from semiclip import errors
from semiclip.errors._base import remembered

SNAPSHOT = Path(__file__).parent / "errors.txt"
EXAMPLES = [
    errors.BadValue("n_views", 0, "a whole number of at least 1"),
    errors.UnknownChoice("method", "tvm", ["center", "tvn"]),
    errors.UnknownChoice("level", 3, ["gene", "pair"], "name one of them"),
    errors.WrongType("table", list, "a DataFrame", "pass one with a row per run"),
    errors.NotGiven("study.toml: output.folder", "set it in a TOML file or by --out"),
    errors.UnexpectedArgument("training", ["epochs"], "got an unexpected keyword argument 'epochs'", "try max_epochs"),
    errors.IdleArgument(["rng", "n_views"], "without stochastic=True"),
    errors.Conflict("pea", "a baseline in closed form", "leave out pea"),
    errors.MissingColumn("plate", ["gene", "dose"], name="batch_key"),
    errors.MissingColumn(["gene_a", "gene_b"], [], where="the table"),
    errors.MissingEntry("X_pca", ["X_scvi"], name="use_rep", way_out="make it with scl.pp.encode"),
    errors.MissingValues("obs['plate']", [f"cell{i}" for i in range(7)], name="batch_key"),
    errors.NotFinite("obsm['X_pca']", ["cell1"]),
    errors.NotCounts(["cell1", "cell2"]),
    errors.WrongDtype("obsm['X_pca']", "<U1"),
    errors.NotInMemory("X"),
    errors.WrongShape("codes", (3,), "one group per row, (4,)"),
    errors.Mismatch("the width of student_rep", 8, 16, "encode both with one encoder"),
    errors.Repeated("gene labels", ["A", "B"], "average their rows first"),
    errors.NameTaken("n_pairs", "a column of the result"),
    errors.CannotWrite("into a view", "its parent would not see the result", "call .copy() on the subset first"),
    errors.Empty("rows in the table"),
    errors.TooFew("genes in the map", 5, 20),
    errors.TooMany("sets", 9, 4, "choose among them"),
    errors.TooLarge("the decoder of 20000 genes", 10.4, 5.03, "cpu", "keep at most 13000 genes"),
    errors.NoVariation("the controls of 1 batch(es)", ["plate1"], "use method='center'"),
    errors.TooFewControls({"plate1": 1, "plate2": 0}, 2, 9),
    errors.TooFewControls({"plate1": 1}, 2, 1),
    errors.UnknownControl(["DMSO"], "compound", ["dmso", "aspirin"]),
    errors.UnknownControl(["DMSO"], None),
    errors.UnknownControl([], "compound"),
    errors.NothingShared("key on compound", ["a", "b"], ["c"], ("the student", "the teacher")),
    errors.Refused("views mix samples that the split keeps apart", ["plate"], "make them again"),
    errors.NotFitted("the encoder", "call .fit(adata) first"),
    errors.NoData("model", "pass the samples to embed"),
    errors.Diverged("training", 3),
    errors.DamagedFile("encoder/settings.json", "it is no JSON", "save the encoder again"),
    errors.MissingFile("plates.csv"),
    errors.FileExists("report.html"),
    errors.DownloadFailed("relationships.csv", "https://example.org", "no route to host", "try again"),
    errors.MissingExtra("timm", "model='timm/vit'"),
]

REMEMBERED = [
    errors.BadValue("perturbation_key", None, "the obs column of the perturbations"),
    errors.UnknownChoice("layer", "raw", ["counts"]),
    errors.MissingColumn("plate", ["gene", "dose"], name="batch_key"),
    errors.MissingEntry("counts", ["raw"], "layers", name="layer"),
    errors.MissingValues("obs['plate']", ["cell1"], name="batch_key"),
    errors.UnknownControl(["DMSO"], "compound", ["dmso", "aspirin"]),
    errors.UnknownControl(["DMSO"], None),
]  # of these the model or the encoder remembers the arguments, which nobody typed
for _error in REMEMBERED:
    _arguments = ["perturbation_key", "control", "batch_key"]
    with suppress(errors.SemiclipError), remembered("the model", _arguments), remembered("the encoder", ["layer"]):
        raise _error
EXAMPLES += REMEMBERED


def test_the_wording_is_the_one_that_was_read_and_kept():
    """To change it, run the tests with UPDATE_ERRORS=1 and read the difference."""
    text = "".join(f"{type(error).__name__}: {error}\n" for error in EXAMPLES)
    if os.environ.get("UPDATE_ERRORS"):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_every_error_has_an_example():
    others = {errors.some, errors.SemiclipError, errors.SemiclipWarning}
    kinds = {getattr(errors, name) for name in errors.__all__} - others
    assert {type(error) for error in EXAMPLES} == kinds


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_are_built_in_errors_too_and_travel_between_processes(error):
    assert isinstance(error, errors.SemiclipError)
    built_in = [kind for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    assert built_in[0] not in (Exception, BaseException)
    back = pickle.loads(pickle.dumps(error))  # as joblib's workers send them
    assert type(back) is type(error)
    assert back.__dict__ == error.__dict__
    assert str(back) == str(error)


def test_some_names_five_and_counts_the_rest():
    assert [errors.some(range(n)) for n in (0, 1, 5)] == ["", "0", "0, 1, 2, 3, 4"]
    assert errors.some(iter(range(7))) == "0, 1, 2, 3, 4, … (7 in all)"
    assert errors.some("abc", 2) == "a, b, … (3 in all)"
