"""Columns that tell apart the parts of a well, such as its sites and images."""

import re

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # in the name of a column
# words in the names of columns that tell apart the parts of a well, over which its profile is meant to be averaged
PARTS = {
    "site", "field", "fov", "tile", "position", "image", "object", "nucleus", "nuclei", "cellid", "file", "filename",
    "path", "pathname", "url", "frame", "channel", "series", "number", "index", "count", "location", "x", "y", "z",
}  # fmt: skip


def tells_parts_apart(column: str) -> bool:
    """Tell by the name of a column whether its values number or name parts of a well."""
    words = {word.lower() for word in WORD.findall(column)}
    return bool(words & PARTS) or {"cell", "id"} <= words
