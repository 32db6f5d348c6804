"""Turns LanceDB's exceptions into errors of ours, which name the damaged file and what brings it
back.

LanceDB raises `RuntimeError`, `ValueError` or a panic of its own, with a text that often names no
file. A file that was cut short is found by its last bytes.
"""

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
"""Matches LanceDB's messages about a file that doesn't end as it should."""
MARK = b"LANC"
"""The last bytes of every complete Lance file."""
PLACES = ("_versions/*.manifest", "data/*.lance", "_indices/*/*.lance")
SOURCE = re.compile(r",? /\S+\.rs:\d+:\d+")
"""Matches the place in LanceDB's source code that an error names. It is removed: it doesn't help
users."""


@contextmanager
def named(folder: Path, part: Part | None = None) -> Iterator[None]:
    """Context manager that turns LanceDB's errors about the catalogue's files in `folder` into a
    `StorageError`. `part`: the part of the catalogue that is being read, if known."""
    try:
        yield
    except Exception as error:  # LanceDB's panics share no other class
        storage_error = explained(error, folder, part)
        if storage_error is None:
            raise
        raise storage_error from error


def explained(error: Exception, folder: Path, part: Part | None = None) -> StorageError | None:
    """Returns LanceDB's error as a `StorageError`; None if the files are not its cause. `part`: the
    part of the catalogue in `folder` that was being read."""
    if isinstance(error, WhyrankError):
        return None
    message = " ".join(SOURCE.sub("", f"{error}").removeprefix("lance error: ").split())[:300]
    number = re.search(r"os error (\d+)", message)
    code = int(number[1]) if number else getattr(error, "errno", None)
    if code in FULL:
        return disk_full(folder, message)
    if code in BUSY_OR_DENIED:
        return StorageError(
            f"{folder}: {message}: may this process read and write it, and open enough files?"
        )
    # bytes that decode to no text or JSON are damage; any other `ValueError` is a mistake of ours
    is_damage = (
        isinstance(error, UnicodeDecodeError | json.JSONDecodeError)
        or type(error).__name__ in {"ArrowInvalid", "RustPanic"}
        or DAMAGE.search(message) is not None
    )
    if not is_damage:
        return None
    files = _damaged_files(folder / "items.lance", message)
    return CatalogDamaged(
        f"{_subject(folder, files, part)} damaged ({message}): {_cure(folder, files, part)}"
    )


def disk_full(folder: Path, message: str) -> DiskFull:
    return DiskFull(
        f"{folder} can't be written ({message}): free some space on its disk, or raise the quota"
    )


def _damaged_files(table: Path, message: str) -> list[str]:
    """Returns the paths of damaged files, relative to `table`: the file that `message` names, if it
    exists; else up to three files that are incomplete, because they were cut short or are being
    written; else the missing file that `message` names, if any."""
    name = re.search(r"items\.lance/((?:_versions|_indices|data|_deletions)/[\w./-]+\w)", message)
    if name and (table / name[1]).exists():
        return [name[1]]
    if CUT.search(message) or "Not found" in message:
        files = (file for place in PLACES for file in sorted(table.glob(place)))
        cut_short = [f"{file.relative_to(table)}" for file in files if not ends_whole(file)]
        if cut_short:
            return cut_short[:3]
    return [name[1]] if name else []


def data_files(folder: Path) -> set[Path]:
    """Returns the files of rows and indexes of all versions, complete or not."""
    return {file for place in PLACES[1:] for file in (folder / "items.lance").glob(place)}


def ends_whole(file: Path) -> bool:
    """Returns whether the file was written to its end; False if it can't be read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, 2) - len(MARK)))
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
        versions = folder / "items.lance" / "_versions"
        return (
            f"nobody needs it: move the manifests in {versions} away, all but {Path(latest).name}"
        )
    if part == "vectors":
        return "'whyrank ingest --re-embed' makes the vectors anew"
    if part == "rows" or manifests:
        return f"restore a copy of {folder}, or move it away and ingest the items again"
    return "'whyrank doctor' says what brings it back"


def latest_manifest(folder: Path) -> str:
    """Returns the path of the latest manifest, relative to the table; empty if there is none. Its
    name sorts first, since names count down from the greatest 64-bit number."""
    manifests = (folder / "items.lance" / "_versions").glob("*.manifest")
    return min((f"_versions/{file.name}" for file in manifests), default="")


def newest_known(folder: Path) -> int:
    """Returns the number of the latest version, from the note that its writer left in the folder; 0
    if there is no such note."""
    try:
        return int(
            json.loads(
                (folder / "items.lance" / "_versions" / "latest_version_hint.json").read_bytes()
            )["version"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return 0
