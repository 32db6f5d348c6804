"""A program: copies standard input to standard error, line by line, each as a JSON object; a line
that is none becomes one.

Of the standard library alone, so that it starts in milliseconds. It ends when nobody is left who
could write to it.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime


def as_json(line: bytes) -> bytes:
    """The line itself if it is a JSON object, else one that holds it."""
    try:
        if isinstance(json.loads(line), dict):
            return line.rstrip(b"\n") + b"\n"
    except ValueError:
        pass
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    text = line.decode(errors="replace").rstrip()
    return (
        json.dumps({"event": "native", "line": text, "level": "warning", "timestamp": now}).encode()
        + b"\n"
    )


def write(data: bytes) -> None:
    """All of it, or what a full disk takes."""
    with suppress(OSError):
        while data:
            data = data[os.write(2, data) :]


def main() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            name, signal.SIG_IGN
        )  # they are the service's, whose last lines are still to come
    for line in sys.stdin.buffer:
        if line.strip():
            write(as_json(line))


if __name__ == "__main__":
    main()
