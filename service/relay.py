"""A program that copies standard input to standard error, line by line. A line that is no JSON
object is wrapped into one.

It imports the standard library alone, so that it starts in milliseconds. It ends when no process
is left that could write to it.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime


def as_json(line: bytes) -> bytes:
    """The line itself if it is a JSON object, else an object that holds its text."""
    with suppress(ValueError):
        if isinstance(json.loads(line), dict):
            return line.rstrip(b"\n") + b"\n"
    wrapped = {
        "event": "native",
        "line": line.decode(errors="replace").rstrip(),
        "level": "warning",
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    return json.dumps(wrapped).encode() + b"\n"


def write(data: bytes) -> None:
    """Writes the data to standard error; drops what can't be written, as on a full disk."""
    with suppress(OSError):
        while data:
            data = data[os.write(2, data) :]


def main() -> None:
    # the signals are meant for the service, whose last lines are still to come
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        if line.strip():
            write(as_json(line))


if __name__ == "__main__":
    main()
