"""Jobs in several processes, a file for each result: whoever is interrupted loses the jobs of that moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiclip._storage import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def do_all(work: Callable[..., bytes], jobs: Mapping[Path, tuple[Any, ...]], n_jobs: int, what: str) -> None:
    """Write what ``work`` makes of the arguments of each file as soon as it is there, and show how far it is."""
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    if not jobs:
        return
    pool = Parallel(n_jobs=min(n_jobs, len(jobs)), return_as="generator_unordered")
    done = pool(delayed(_write)(work, path, arguments) for path, arguments in jobs.items())
    for _ in tqdm(done, what, total=len(jobs)):
        pass


def _write(work: Callable[..., bytes], path: Path, arguments: tuple[Any, ...]) -> None:
    write_file(path, work(*arguments))
