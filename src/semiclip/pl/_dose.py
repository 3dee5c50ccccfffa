"""A picture of perturbations at several doses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._docs import document
from semiclip.errors import MissingEntry
from semiclip.pl import _style as style
from semiclip.pl import _tables as tables
from semiclip.pl._beside import write_beside
from semiclip.tl._maps import list_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("representation", "perturbation", "chance", "direction")


@document
def dose(
    table: pd.DataFrame,
    *,
    perturbation: str | Sequence[str] | None = None,
    representation: str | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
    palette: style.Palette = None,
) -> np.ndarray:
    """Draw how far each dose of a perturbation is from the controls, and whether its doses go the same way.

    The dashed line is the size that as many controls have by chance, the median over the perturbations at each dose.
    Doses stand on a logarithmic axis if all are above 0, and have their names where there is room.

    Parameters
    ----------
    table
        What :func:`semiclip.tl.dose` returns.
    perturbation
        Perturbation or perturbations to draw; by default all in the table.
    representation
        Representation to draw, if there are several.
    {drawing}

    Returns
    -------
    The axes, shape (2,): size and direction.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or a column of figures does not hold numbers.
    KeyError
        If the table lacks a column, a perturbation or the representation.
    ValueError
        If the table is empty or has gaps or repeated rows, or representations to choose from.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).mdata["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "dose_key": "dose"}
    >>> table = scl.tl.dose(images, use_rep="X_image", **columns)
    >>> size, direction = scl.pl.dose(table, perturbation=["compound_0", "compound_1"])
    >>> direction.get_ylabel(), [line.get_label() for line in direction.lines[:2]]
    ('Cosine with its other doses', ['compound_0', 'compound_1'])
    """
    tables.check_table(table, COLUMNS, "scl.tl.dose", numbers=("dose", "size"))
    name = tables.read_single(table, "representation") if representation is None else representation
    table = tables.select_rows(table, "representation", name)
    present = list(table["perturbation"].unique())
    names = present if perturbation is None else list_names(perturbation, "perturbation")
    if absent := [one for one in names if one not in present]:
        raise MissingEntry(absent, present, "the table", "perturbation")
    table = table[table["perturbation"].isin(names)].sort_values("dose", kind="stable")
    tables.check_once(table, ["perturbation", "dose"])
    looks = style.pick_looks(names, palette)

    axes = style.take_axes(ax, 2, size=(7.6, 3.4), panels=["size", "direction"])
    handles: list[Any] = []
    for one in names:
        rows = table[table["perturbation"] == one]
        look: dict[str, Any] = {"markersize": 3.5, "linewidth": 1.4, "label": one}
        look |= {"color": looks[one].colour, "marker": looks[one].marker, "linestyle": looks[one].line}
        handles += axes[0].plot(rows["dose"], rows["size"], **look)
        axes[1].plot(rows["dose"], rows["direction"], **look)
    chance = table.groupby("dose")["chance"].median().dropna()
    if len(chance):
        handles += axes[0].plot(chance.index, chance, label="as many controls", **style.make_chance_look())
    doses = np.unique(table["dose"].to_numpy(float))
    log = bool(doses[0] > 0)
    axes[0].set_ylim(0, None)
    axes[1].set_ylim(-1.05, 1.05)
    axes[1].axhline(0, **style.make_chance_look())
    for panel, label in zip(
        axes, (f"Distance from the controls\n({name})", "Cosine with its other doses"), strict=True
    ):
        panel.set(xlabel="Dose", ylabel=label)
        panel.spines[["top", "right"]].set_visible(False)
        style.span_numbers(panel, doses, log=log)
    write_beside(axes[1], handles)
    for panel in axes if log else ():
        style.measure_inches(panel)  # lays out the figure, so that names of doses know their room
        style.name_places(panel, doses, [f"{dose:g}" for dose in doses])
    return axes
