"""Failures in files, so that they outlive the process.

``Flights`` says what to keep and for how long. A file has the latest failure of one
client as ``mqttctl --json flight show`` writes it: no passwords, no payloads, and what
``mqttd.testing.replay`` takes. Who fails again and again, or with many others, must not
keep the disk busy: so many files are written a second, the others wait their turn.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import frozen
from twisted.logger import Logger

from mqttd.admin.alarms import Severity

if TYPE_CHECKING:
    from mqttd.admin.alarms import Alarms
    from mqttd.admin.tracing.flights import Dump
    from mqttd.broker.broker import Broker
    from mqttd.broker.timers import Timer

log = Logger()

ALARM = "flight-files"

#: Files that are written in a second.
RATE = 10

#: Characters of a client id, percent-encoded, that the name of its file shows.
SHOWN_ID = 100

_OWN = re.compile(r".+-[0-9a-f]{16}\.json(\.new)?")

_SUMMARY = ("client_id", "address", "version", "at", "cause", "text", "count")


class FlightFileError(Exception):
    """A file that cannot be read; says which and why."""


@frozen
class Filed:
    """A failure that is in a file only."""

    _summary: Mapping[str, Any]
    path: Path

    @property
    def client_id(self) -> str:
        return str(self._summary["client_id"])

    @property
    def cause(self) -> str:
        return str(self._summary["cause"])

    @property
    def count(self) -> int:
        return int(self._summary["count"])

    def summary(self) -> dict[str, Any]:
        return dict(self._summary)

    def document(self, shown: int = 0) -> dict[str, Any]:
        """All of it; of payloads there is nothing to be shown.

        :raise FlightFileError: when it cannot be read any more.
        """
        return _read(self.path)


class FlightFiles:
    """The files of one broker."""

    def __init__(self, broker: Broker, alarms: Alarms) -> None:
        self._broker = broker
        self._alarms = alarms
        #: Client id -> what waits to be written.
        self._waiting: dict[str, Dump] = {}
        self._timer: Timer | None = None
        self._written = 0

    def load(self) -> list[Filed]:
        """What is there, the oldest first. Files that make no sense are deleted."""
        folder = self._folder()
        found = []
        for path in _own_files(folder) if folder is not None else ():
            try:
                if path.suffix != ".json":
                    raise FlightFileError("we were stopped while it was written")
                document = _read(path)
                found.append(Filed({name: document[name] for name in _SUMMARY}, path))
            except (FlightFileError, KeyError) as error:
                log.warn("{path} is no failure of a client: {error}", path=str(path), error=error)
                _delete(path)
        return sorted(found, key=lambda each: each.summary()["at"])

    def save(self, dump: Dump) -> None:
        """Write *dump*, now or when there is time for it."""
        if self._folder() is None:
            return
        self._waiting[dump.client_id] = dump
        if self._written < RATE:
            self._write_next()
        if self._timer is None:
            self._timer = self._broker.wheel.call_later(1.0, self._second_over)

    def forget(self, client_id: str) -> None:
        """Delete the file of *client_id*, if there is one."""
        self._waiting.pop(client_id, None)
        folder = self._folder()
        if folder is not None:
            _delete(folder / _file_name(client_id))

    def stop(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._write_next()

    def _second_over(self) -> None:
        self._timer, self._written = None, 0
        while self._waiting and self._written < RATE:
            self._write_next()
        if self._written:
            self._timer = self._broker.wheel.call_later(1.0, self._second_over)

    def _write_next(self) -> None:
        client_id = next(iter(self._waiting))
        dump = self._waiting.pop(client_id)
        self._written += 1
        folder = self._folder()
        if folder is None:
            return
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(folder / _file_name(client_id), json.dumps(dump.document()))
        except OSError as error:
            self._complain(folder, error)
        else:
            self._alarms.clear(ALARM)

    def _complain(self, folder: Path, error: OSError) -> None:
        # Said once: an alarm that is active is not activated again.
        self._alarms.activate(
            ALARM,
            Severity.WARNING,
            "failures of clients are kept in memory only",
            f"cannot write to {folder}: {error.strerror}; make room, or name another "
            "directory in [flight]",
        )

    def _folder(self) -> Path | None:
        """Where the files are; None where none are written."""
        settings = self._broker.settings
        if not settings.flight.files:
            return None
        if settings.flight.directory:
            return Path(settings.flight.directory)
        return Path(settings.data_directory, "failures") if settings.data_directory else None


def _file_name(client_id: str) -> str:
    """Says who it is to people; two clients never share one."""
    digest = sha256(client_id.encode()).hexdigest()[:16]
    return f"{quote(client_id, safe='')[:SHOWN_ID]}-{digest}.json"


def _own_files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if _OWN.fullmatch(path.name)]
    except OSError:
        return []


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise FlightFileError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise FlightFileError(f"{path} is not JSON") from None
    if not isinstance(document, dict):
        raise FlightFileError(f"{path} has no failure")
    return document


def _write(path: Path, text: str) -> None:
    """All of it or nothing, whenever we are killed; raises ``OSError``."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    except OSError:
        _delete(new)
        raise


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warn("cannot delete {path}: {error}", path=str(path), error=error.strerror)
