"""The section on which pairs the representations recall, share, gain and lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._report._format import count, decimals, file_name, listed
from semiclip._report._parts import Download, Heading, Note, Picture, Section, Table, Text
from semiclip._report._pictures import drawn

if TYPE_CHECKING:
    import pandas as pd

    from semiclip._report._findings import Asked, Findings
    from semiclip._report._parts import Columns, Part

N_PAIRS = 20  # shown; all are in the file below the table
N_NETWORK = 100


def overlap(asked: Asked, found: Findings) -> Section:
    """Which pairs the representations share, gain and lose."""
    parts: list[Part] = []
    if found.overlap is None or found.gains_losses is None:
        parts.append(Text("With one representation there is nothing to compare: pass several as use_rep."))
    else:
        parts += _shared(asked, found.sets, found.overlap)
        parts += _compared(asked, found.sets, found.gains_losses)
    for name, region in asked.regions.items():
        parts += _pairs(asked, found.sets, name, region)
    return Section("overlap", "Which pairs are recalled", parts)


def _shared(asked: Asked, sets: pd.DataFrame, table: pd.DataFrame) -> list[Part]:
    from semiclip import pl

    held = table[table["n_pairs"] > 0]
    if held.empty:
        return [Text("None of the representations recalls an annotated pair.")]
    marks = [(name, held[name].map({True: "yes", False: "no"})) for name in asked.names]
    counts = [(name.removeprefix("n_").title(), held[name].map("{:,}".format)) for name in ("n_pairs", "n_genes")]
    told = "; ".join(
        f"{count(n, 'pair')} by {listed([name for name, has in zip(asked.names, inside, strict=True) if has])} alone"
        for inside, n in zip(held[asked.names].to_numpy(), held["n_pairs"], strict=True)
    )
    chosen = sets[["gene_a", "gene_b", "databases", *asked.names]]
    return [
        Picture(
            drawn(lambda ax: pl.venn(chosen, ax=ax), size=(5.2, 4.0) if len(asked.names) < 4 else (5.8, 4.0)),
            f"Overlap of the recalled pairs. {told}.",
            "Annotated pairs of all databases, each counted once, by the representations that recall them.",
        ),
        Table(
            "Pairs recalled by just these representations",
            [*marks, *counts],
            len(asked.names),
            Download("overlap.csv", table),
        ),
    ]


def _compared(asked: Asked, sets: pd.DataFrame, table: pd.DataFrame) -> list[Part]:
    from semiclip import pl

    by_chance = table["total"] * table["base_total"] / len(sets)
    counts = {name: table[name].map("{:,}".format) for name in ("preserved", "gains", "losses", "total", "base_total")}
    shown: Columns = [
        ("Representation", table["representation"]),
        ("Preserved", counts["preserved"]),
        ("By chance", [decimals(value, 1) for value in by_chance]),
        ("Gains", counts["gains"]),
        ("Losses", counts["losses"]),
        ("Recalled", counts["total"]),
        (f"By {asked.base}", counts["base_total"]),
    ]
    told = "; ".join(
        f"{name}: {preserved} preserved, {gains} gained, {losses} lost"
        for name, preserved, gains, losses in zip(
            table["representation"], *(counts[part] for part in ("preserved", "gains", "losses")), strict=True
        )
    )
    return [
        Heading(f"Gains and losses, compared with {asked.base}"),
        Text(
            "Preserved: both recall the pair. Gained: only the representation does. Lost: only "
            f"{asked.base} does. “By chance” so many would be preserved if the two recalled pairs independently."
        ),
        Picture(
            drawn(lambda ax: pl.gains_losses(table, ax=ax), size=(5.8, 1.6 + 0.45 * len(table))),
            f"Bars of preserved, gained and lost pairs. {told}.",
            f"Pairs recalled by each representation, compared with {asked.base}.",
        ),
        Table("Gains and losses", shown, 1, Download("gains_losses.csv", table)),
        Note(
            "A map that knows nothing recalls 10% of the annotated pairs too, and most of these would count as gains. "
            "A single gained pair is a hint, not evidence."
        ),
    ]


def _pairs(asked: Asked, sets: pd.DataFrame, name: str, region: dict[str, Any]) -> list[Part]:
    """Name the pairs of a region, those in most databases first, and draw them."""
    from semiclip import tl

    columns, file = ["gene_a", "gene_b", "databases"], file_name(name)
    pairs = tl.region(sets, **region)[columns]
    gained = bool(asked.others)
    title = f"Pairs gained by {name} over {asked.base}" if gained else f"Pairs recalled by {name}"
    parts: list[Part] = [Heading(title)]
    if pairs.empty:
        parts.append(Text("There is none."))
    else:
        parts += [_network(asked, sets, region, title), _named(pairs, f"{'gained' if gained else 'recalled'}_{file}")]
    lost = tl.region(sets, inside=asked.base, outside=name)[columns] if gained else pairs[:0]
    if len(lost):
        text = f"The {count(len(lost), 'pair')} that {asked.base} recalls and {name} does not:"
        parts += [Text(text), Download(f"lost_{file}.csv", lost)]
    return parts


def _named(pairs: pd.DataFrame, file: str) -> Table:
    order = pairs["databases"].str.count(";").sort_values(ascending=False, kind="stable").index
    pairs = pairs.loc[order].reset_index(drop=True)
    top, rest = pairs.head(N_PAIRS), len(pairs) - N_PAIRS
    shown: Columns = [
        ("Gene", top["gene_a"]),
        ("Gene", top["gene_b"]),
        ("Databases", top["databases"].str.replace(";", ", ")),
    ]
    caption = f"{count(len(pairs), 'pair')}, those in most databases first"
    more = f"; {rest:,} more are in the file below" if rest > 0 else ""
    return Table(caption + more, shown, 3, Download(f"{file}.csv", pairs))


def _network(asked: Asked, sets: pd.DataFrame, region: dict[str, Any], title: str) -> Picture:
    from semiclip import pl
    from semiclip.pl._style import OKABE_ITO

    databases = {name for names in sets["databases"].unique() for name in names.split(";")}
    if len(databases) > len(OKABE_ITO):  # more than there are colours
        sets = sets.assign(databases="annotated")
    options: dict[str, Any] = {"max_pairs": N_NETWORK, "rng": asked.seed}
    several = "; grey where several have it" if len(databases) > 1 else ""
    return Picture(
        # shapes of letters with halos would take several times the bytes of pixels
        drawn(lambda ax: pl.relationship_network(sets, **region, **options, ax=ax), size=(5.8, 5.4), file_format="png"),
        f"Network of genes. {title}; the table below lists them.",
        f"{title}, by database{several}.",
    )
