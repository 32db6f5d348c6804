"""LanceDB's complaints as errors of ours, which name the file and what brings it back.

LanceDB raises `RuntimeError`, `ValueError` or a panic of its own, with a text that often names no
file: which one was cut short is seen from how the files end.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from service.errors import CatalogDamaged, DiskFull, StorageError, WhyrankError

Part = Literal["rows", "vectors", "indexes", "versions"]
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BUSY_OR_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE}
DAMAGE = re.compile(
    r"LanceError\((IO|Arrow|Index)\)|Not found|corrupt|panicked|internal error|a Lance "
    r"file|magic number",
    re.IGNORECASE,
)
CUT = re.compile(
    r"invalid range|range was invalid|whole buffer|too small|magic|end of file|EOF", re.IGNORECASE
)
"""So speaks who looked for the end of a file and found something else."""
MARK = b"LANC"
"""The last bytes of every file of Lance that is whole."""
PLACES = ("_versions/*.manifest", "data/*.lance", "_indices/*/*.lance")
SOURCE = re.compile(r",? /\S+\.rs:\d+:\d+")
"""Where in LanceDB's source an error came from."""


@contextmanager
def named(folder: Path, part: Part | None = None) -> Iterator[None]:
    """Within, what LanceDB raises because of the files of the catalogue in `folder` is a
    `StorageError`. `part`: what of it is read, if that is known."""
    try:
        yield
    except Exception as error:  # LanceDB's panics share no other class
        ours = explained(error, folder, part)
        if ours is None:
            raise
        raise ours from error


def explained(error: Exception, folder: Path, part: Part | None = None) -> StorageError | None:
    """The error of ours that one of LanceDB's is, of the catalogue in `folder`, while this `part`
    of it was read; None for one that is not the files' fault."""
    if isinstance(error, WhyrankError):
        return None
    said = " ".join(SOURCE.sub("", f"{error}").removeprefix("lance error: ").split())[:300]
    number = re.search(r"os error (\d+)", said)
    code = int(number[1]) if number else getattr(error, "errno", None)
    if code in FULL:
        return disk_full(folder, said)
    if code in BUSY_OR_DENIED:
        return StorageError(
            f"{folder}: {said}: may this process read and write it, and open enough files?"
        )
    if not _is_damage(error, said):
        return None
    files = _files(folder / "items.lance", said)
    return CatalogDamaged(
        f"{_subject(folder, files, part)} damaged ({said}): {_cure(folder, files, part)}"
    )


def disk_full(folder: Path, said: str) -> DiskFull:
    return DiskFull(
        f"{folder} can't be written ({said}): free some space on its disk, or raise the quota"
    )


def _is_damage(error: Exception, said: str) -> bool:
    """A value of another kind than was written there is damage too; other `ValueError`s are a
    programmer's fault."""
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return True
    return type(error).__name__ in {"ArrowInvalid", "RustPanic"} or DAMAGE.search(said) is not None


def _files(table: Path, said: str) -> list[str]:
    """Those at fault, relative to the table: as they are named, else those that are cut short;
    empty if nobody knows."""
    looked = CUT.search(said) or "Not found" in said
    broken = [f"{file.relative_to(table)}" for file in _cut_short(table.parent)] if looked else []
    named = re.search(r"items\.lance/((?:_versions|_indices|data|_deletions)/[\w./-]+\w)", said)
    if named and (table / named[1]).exists():
        return [named[1]]
    return broken[:3] or ([named[1]] if named else [])


def data_files(folder: Path) -> set[Path]:
    """Those of rows and indexes, of every version, whole or not."""
    return {file for place in PLACES[1:] for file in (folder / "items.lance").glob(place)}


def _cut_short(folder: Path) -> list[Path]:
    """Files of the catalogue that don't end as they should; those that somebody is writing just now
    are among them."""
    files = (file for place in PLACES for file in sorted((folder / "items.lance").glob(place)))
    return [file for file in files if not ends_whole(file)]


def ends_whole(file: Path) -> bool:
    """Has it been written to its end?"""
    try:
        with file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(0, opened.tell() - len(MARK)))
            return opened.read() == MARK
    except OSError:
        return False


SUBJECTS = {
    "rows": "the items in {} are",
    "vectors": "the vectors in {} are",
    "indexes": "an index in {} is",
    "versions": "the manifest of an old version in {} is",
    None: "a file in {} is",
}


def _subject(folder: Path, files: Iterable[str], part: Part | None) -> str:
    paths = [f"{folder / 'items.lance' / file}" for file in files]
    if paths:
        return f"{' and '.join(paths)} {'is' if len(paths) == 1 else 'are'}"
    return SUBJECTS[part].format(folder)


def _cure(folder: Path, files: list[str], part: Part | None) -> str:
    if part == "indexes" or (files and all(file.startswith("_indices/") for file in files)):
        return "'whyrank ingest --re-index' makes the indexes anew"
    latest = latest_manifest(folder)
    manifests = [file for file in files if file.startswith("_versions/")]
    if part == "versions" or (manifests and latest not in manifests):
        where = folder / "items.lance" / "_versions"
        return f"nobody needs it: move the manifests in {where} away, all but {Path(latest).name}"
    if part == "vectors":
        return "'whyrank ingest --re-embed' makes the vectors anew"
    if part == "rows" or manifests:
        return f"restore a copy of {folder}, or move it away and ingest the items again"
    return "'whyrank doctor' says what brings it back"


def latest_manifest(folder: Path) -> str:
    """Relative to the table; empty if there is none. Names count down from the greatest number of
    64 bits."""
    names = sorted(file.name for file in (folder / "items.lance" / "_versions").glob("*.manifest"))
    return f"_versions/{names[0]}" if names else ""


def newest_known(folder: Path) -> int:
    """The version that a writer noted as the last; 0 if that is not known."""
    try:
        return int(
            json.loads(
                (folder / "items.lance" / "_versions" / "latest_version_hint.json").read_bytes()
            )["version"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return 0
