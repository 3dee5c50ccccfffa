"""What the page says in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._report._findings import SUMMARIES
from semiclip._report._format import count, interval, p_value, share
from semiclip._report._parts import Note, Points, Section, Table, Text

if TYPE_CHECKING:
    from semiclip._report._findings import Asked, Findings
    from semiclip._report._parts import Part

LEVEL = 0.05  # of p, up to which a sentence says "more than chance"
CARE = " The interval reaches down to chance, so take this with care."


def summary(asked: Asked, found: Findings) -> Section:
    """Say in plain words what the numbers do and do not show."""
    table = found.main
    keys = [key for key in SUMMARIES if (table["key"] == key).any()] or list(table["key"].unique())
    kept = table[table["key"].isin(keys)]
    rows: dict[Any, list[dict[str, Any]]] = {
        name: part.to_dict("records")  # type: ignore[misc]
        for name, part in kept.groupby("representation", sort=False)
    }
    points = [(name, _verdict(*rows[name])) for name in asked.names]
    parts: list[Part] = [
        Points(points),
        Table(
            "Recall of known relationships at the thresholds 5% and 95%",
            [
                ("Representation", kept["representation"]),
                ("Over the databases" if len(keys) > 1 else "Database", kept["key"]),
                ("Recall", kept["value"].map(share)),
                ("95% interval", map(interval, kept["ci_low"], kept["ci_high"])),
                ("Chance", kept["chance_mean"].map(share)),
                ("p", kept["p_value"].map(p_value)),
            ],
            2,
        ),
    ]
    if found.gains_losses is not None:
        counts = found.gains_losses.set_index("representation")[["gains", "losses", "preserved"]]
        told = [
            (name, f"gains {count(gains, 'pair')} and loses {losses:,}; both recall {preserved:,}.")
            for name, gains, losses, preserved in counts.itertuples()
        ]
        parts += [
            Text(f"Of the {count(len(found.sets), 'annotated pair')}, compared with {asked.base}:"),
            Points(told),
            Note(
                "This page does not test whether two representations differ from each other. Intervals that overlap do "
                "not show that they are equal, nor does a higher number show that one is better: train with several "
                "seeds and compare them with scl.tl.compare."
            ),
        ]
    return Section("summary", "Summary", parts)


def _verdict(main: dict[str, Any], union: dict[str, Any] | None = None) -> str:
    """Judge by the mean over the databases, or by the only one."""
    above = main["p_value"] <= LEVEL
    verdict = "recalls more" if above else "shows no evidence of recalling more"
    if union is None:
        told = f"It recalls {_counted(main)}."
    else:
        told = f"On average over the databases it recalls {_measured(main)}; of all together, {_counted(union)}."
    care = CARE if above and main["ci_low"] <= main["chance"] else ""
    return f"{verdict} known relationships than chance. {told}{care}"


def _counted(row: dict[str, Any]) -> str:
    return f"{row['n_recalled']:,} of {count(row['n_pairs'], 'annotated pair')}, {_measured(row)}"


def _measured(row: dict[str, Any]) -> str:
    chance = f"chance {share(row['chance_mean'])}, p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{p_value(row['p_value'])}"
    return f"{share(row['value'])} (95% interval {interval(row['ci_low'], row['ci_high'])}; {chance})"


def reading(asked: Asked) -> Section:
    """Explain the words that the page uses."""
    n, smallest = f"{asked.n_permutations:,}", p_value(1 / (1 + asked.n_permutations))
    points = [
        ("Recalled:", "each perturbation is one point of a map, the mean of its profiles. A pair of genes is recalled "
         "if its cosine similarity is among the lowest 5% or the highest 5% of all pairs in the map."),
        ("Recall:", "the share of the annotated pairs (those that a database lists, with both genes in the map) that "
         "are recalled. The mean is over the databases, each counted alike; the union counts each distinct pair once."),
        ("Chance:", "a map that knows nothing recalls 10% of them. Chance was also measured: the gene labels of the "
         f"map were exchanged {n} times. p is the share of exchanges that recall at least as much, {smallest} at "
         "least; it is not adjusted for the number of databases and representations. Exchanges take all perturbations "
         "for alike: where annotated genes have many more observations than others, compare with the baseline "
         "'permuted' of scl.tl.recall too."),
        ("95% interval:", "allows for pairs that share a gene and are recalled together. It says how much recall "
         "varies with the pairs that happen to be in the map, not with another training or experiment."),
        ("Not recalled", "does not mean unrelated, since databases are incomplete and a relationship need not show in "
         "these cells. Recalled pairs are known ones by construction; this page predicts no new ones."),
    ]  # fmt: skip
    return Section("reading", "How to read this page", [Points(points)])
