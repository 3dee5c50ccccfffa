"""One page of all tables and figures, which loads nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from typing import TYPE_CHECKING, Any

from semiclip._cli._paper._scores import CORRECTED
from semiclip._csv import format_csv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._paper._section import Section
    from semiclip._cli._paper._store import Results

PIXELS = 96  # of CSS in an inch


def render(plan: Plan, sections: Sequence[Section], results: Results, versions: Mapping[str, str]) -> str:
    """Return the page; Jinja escapes every text that is put into it."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader("semiclip._cli._paper"), PackageLoader("semiclip._report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("paper.html").render(
        sections=[_show(section) for section in sections],
        facts=_list_facts(plan, len(results)),
        warnings=_count_warnings(results),
        versions=versions,
        generator=f"semiclip {versions['semiclip']}",
    )


def _show(section: Section) -> dict[str, Any]:
    """Return a section with its picture and its file as addresses that load nothing."""
    picture = None
    if section.draw is not None:
        width, height = (round(PIXELS * side) for side in section.size)
        picture = {"address": _address("image/png", section.paint()), "width": width, "height": height}
    file = None
    if len(section.data.columns):
        file = {"address": _address("text/csv", format_csv(section.data).encode()), "n_rows": len(section.data)}
    return {"section": section, "picture": picture, "file": file}


def _list_facts(plan: Plan, n_runs: int) -> list[tuple[str, str]]:
    """Return what the study is, in words."""
    settings = plan.settings
    student = settings.student.rep or f"{settings.student.encoder}, fitted on the training expression"
    methods = ", ".join(
        f"{method.label} ({method.recipe})" for name in plan.compared if (method := plan.methods[name]).recipe
    )
    files = settings.data.dataset or settings.data.file or f"{settings.data.rna}, {settings.data.image}"
    facts = [
        ("Training data", str(files)),
        ("Unseen data", ", ".join(plan.sets)),
        ("Main unseen set", plan.main),
        ("Student", student),
        (
            "Teacher",
            f"{settings.teacher.rep}, corrected by TVN" if plan.has_controls else f"{settings.teacher.rep}, centred",
        ),
        ("Methods (settings)", methods),
        ("Correction before recall", CORRECTED[plan.correction]),
        ("Seeds", f"{plan.seeds[0]} to {plan.seeds[-1]}"),
        ("Trainings", f"{n_runs}"),
    ]
    if plan.quick:
        facts.append(("Quick", "few seeds and epochs: a look at the pages, not a measurement"))
    return facts


def _count_warnings(results: Results) -> list[tuple[str, int]]:
    """Return what runs warned of, with the number of runs that did."""
    return list(Counter(text for result in results.values() for text in result.warnings).items())


def _address(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(content).decode()}"
