"""One trace: what it is about, how long it runs, and where its records go.

``Traces`` makes it and shows it packets; it knows neither connections nor HTTP.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger
from twisted.python.logfile import LogFile

from mqttd.settings_watch import TraceSettings
from mqttd.wire.packets import Packet, Publish, Subscribe, Unsubscribe
from mqttd.wire.topics import matches

log = Logger()

#: What the name of a file of a trace ends with.
SUFFIX = ".jsonl"

#: Takes one record.
Sink = Callable[[dict[str, Any]], None]


class TraceError(Exception):
    """A trace that cannot be; says why and what to do."""


def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        # "unix", "memory".
        return None


@frozen
class Wanted:
    """What a trace is about; all that is given must fit."""

    #: Client id, or its beginning and a star; "" for any.
    client_id: str = ""
    #: Address or network (CIDR); "" for any.
    address: str = ""
    #: Topic filter, for PUBLISH, SUBSCRIBE and UNSUBSCRIBE; "" for all packets.
    topic: str = ""
    _network: Any = field(init=False, eq=False, repr=False)

    @_network.default
    def _parse_network(self) -> Any:
        return _network(self.address) if self.address else None

    def may_fit(self, client_id: str | None, address: str) -> bool:
        """Whether packets of this client may fit; its id is None while not known."""
        if self.client_id and client_id is not None:
            if self.client_id.endswith("*"):
                if not client_id.startswith(self.client_id[:-1]):
                    return False
            elif client_id != self.client_id:
                return False
        return not self.address or self._is_at(address)

    def _is_at(self, address: str) -> bool:
        if self._network is None:
            return address == self.address
        other = _network(address)
        return other is not None and (
            other.version == self._network.version and other.subnet_of(self._network)
        )

    def fits(self, packet: Packet, topic: str) -> bool:
        """Whether *packet*, on *topic* if it is a PUBLISH, is one of those."""
        if not self.topic:
            return True
        if isinstance(packet, Publish):
            return bool(topic) and matches(self.topic, topic)
        if isinstance(packet, Subscribe):
            return any(matches(self.topic, each.topic_filter) for each in packet.subscriptions)
        if isinstance(packet, Unsubscribe):
            return any(matches(self.topic, each) for each in packet.topic_filters)
        return False


class Trace:
    """A trace that runs."""

    def __init__(
        self, name: str, wanted: Wanted, settings: TraceSettings, shown: int, began: float
    ) -> None:
        """
        :param shown: bytes of each payload that are shown.
        :param began: Unix time, seconds.
        """
        self.name = name
        self.wanted = wanted
        self.shown = shown
        self.began = began
        #: Unix time at which it ends by itself; None: with its listener.
        self.ends_at: float | None = None
        #: Packets taken, and packets over the rate.
        self.packets = self.missed = 0
        #: Where records go besides the file.
        self.sinks: list[Sink] = []
        #: The path of its file; "" without one.
        self.path = ""
        #: What went wrong with the file; nothing is written from there on.
        self.problem = ""
        self._settings = settings
        self._file: LogFile | None = None
        self._second = self._in_second = 0

    def open(self, directory: str) -> None:
        """Write to a file in *directory*; raises ``TraceError``."""
        settings = self._settings
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._file = LogFile(
                self.name + SUFFIX,
                directory,
                rotateLength=settings.maximum_file,
                defaultMode=0o600,
                maxRotatedFiles=settings.kept_files,
            )
        except OSError as error:
            raise TraceError(
                f"cannot write to {error.filename or directory}: {error.strerror}; "
                "name another directory in [trace]"
            ) from error
        self.path = os.path.join(directory, self.name + SUFFIX)

    def has_room(self, now: float) -> bool:
        """Whether its rate lets it take a packet at *now*; if not, that is counted."""
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        if self._in_second >= self._settings.maximum_rate:
            self.missed += 1
            return False
        self._in_second += 1
        return True

    def note(self, record: dict[str, Any]) -> None:
        """Give *record* to all who want it."""
        self.packets += 1
        for sink in list(self.sinks):
            sink(record)
        if self._file is not None:
            self._write(self._file, record)

    def _write(self, file: LogFile, record: dict[str, Any]) -> None:
        try:
            file.write(json.dumps(record) + "\n")
        except OSError as error:
            self.problem = f"cannot write to {self.path}: {error.strerror}"
            log.error("Trace {name!r}: {problem}", name=self.name, problem=self.problem)
            self.close()

    def close(self) -> None:
        """Write no more."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                log.error("Trace {name!r}: {error}", name=self.name, error=error)
