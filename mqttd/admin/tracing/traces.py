"""The traces of one broker, from start to end.

``Admin`` has one. Connections are watched only while a trace may be about them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from mqttd.admin.tracing.tap import Tap
from mqttd.admin.tracing.trace import SUFFIX, Sink, Trace, TraceError, Wanted
from mqttd.wire.topics import check_topic_filter

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection
    from mqttd.broker.timers import Timer

log = Logger()

#: A name becomes a file's.
NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"

#: Bytes at the end of a file that are read for its last records.
TAIL = 256 * 1024


class Traces:
    """All traces of *broker*."""

    def __init__(self, broker: Broker, wall_clock: Callable[[], float]) -> None:
        """*wall_clock* gives Unix time."""
        self._broker = broker
        self.wall_clock = wall_clock
        self.seconds = broker.seconds
        #: Those that run, by name; live ones have one that nobody can choose.
        self.running: dict[str, Trace] = {}
        #: The connections that are watched.
        self.taps: dict[Connection, Tap] = {}
        self._timers: dict[str, Timer] = {}
        self._number = 0

    # --- start and end ----------------------------------------------------------------

    def record(self, name: str, wanted: Wanted, shown: int, duration: float) -> Trace:
        """Trace to a file, for *duration* seconds; raises ``TraceError``."""
        if not re.fullmatch(NAME, name):
            raise TraceError(f"{name!r} is no name for a trace: letters, digits, '.', '_' and '-'")
        if name in self.running:
            raise TraceError(f"the trace {name!r} runs already")
        self._check(wanted)
        recorded = self.recorded()
        most = self._broker.settings.trace.maximum_recorded
        if name not in recorded and len(recorded) >= most:
            raise TraceError(f"{most} traces have files already: delete some")
        trace = self._make(name, wanted, shown)
        trace.open(self._directory())
        trace.ends_at = trace.began + duration
        self._timers[name] = self._broker.wheel.call_later(duration, self._over, name)
        self._run(trace)
        return trace

    def live(self, wanted: Wanted, shown: int, sink: Sink) -> Trace:
        """Trace to *sink* until ``end``; raises ``TraceError``."""
        self._check(wanted)
        self._number += 1
        trace = self._make(f"live:{self._number}", wanted, shown)
        trace.sinks.append(sink)
        self._run(trace)
        return trace

    def end(self, name: str) -> bool:
        """End the trace; False if there is none. Its file stays."""
        trace = self.running.pop(name, None)
        if trace is None:
            return False
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        trace.close()
        log.info(
            "Trace {name!r} ended: {packets} packets, {missed} over its rate",
            name=name,
            packets=trace.packets,
            missed=trace.missed,
        )
        self._release()
        return True

    def _over(self, name: str) -> None:
        self.end(name)

    def stop(self) -> None:
        """End all of them."""
        for name in list(self.running):
            self.end(name)

    def _check(self, wanted: Wanted) -> None:
        most = self._broker.settings.trace.maximum_running
        if len(self.running) >= most:
            raise TraceError(f"{most} traces run, which is all that [trace] maximum_running allows")
        if not (wanted.client_id or wanted.address or wanted.topic):
            raise TraceError("say what to trace: a client, an address or a topic")
        if wanted.topic and check_topic_filter(wanted.topic, 65_536, 65_535) is not None:
            raise TraceError(f"{wanted.topic[:80]!a} is no topic filter")

    def _make(self, name: str, wanted: Wanted, shown: int) -> Trace:
        settings = self._broker.settings.trace
        return Trace(name, wanted, settings, shown, self.wall_clock())

    def _run(self, trace: Trace) -> None:
        log.info("Trace {name!r} begins: {wanted}", name=trace.name, wanted=trace.wanted)
        if not self.running:
            self._broker.newcomers.append(self._begun)
            self._broker.hooks.add("connected", self._begun)
        self.running[trace.name] = trace
        for connection in list(self._broker.connections.values()):
            self._begun(connection)

    # --- who is watched ---------------------------------------------------------------

    def _begun(self, connection: Connection) -> None:
        """*connection* is there: watch it, if a trace may be about it."""
        if connection in self.taps:
            return
        tap = Tap(self, connection)
        if any(tap.fits(trace) for trace in self.running.values()):
            self.taps[connection] = tap
            connection.transport.watch(tap)

    def keeps(self, tap: Tap) -> bool:
        """Whether *tap*, which knows its client now, is still of use; forgets it if not."""
        if any(tap.fits(trace) for trace in self.running.values()):
            return True
        self.taps.pop(tap.connection, None)
        return False

    def wanting(self, tap: Tap) -> list[Trace]:
        """The traces that *tap* has packets for."""
        return [trace for trace in self.running.values() if tap.fits(trace)]

    def _release(self) -> None:
        """Watch nobody any more whom no trace is about."""
        for connection, tap in list(self.taps.items()):
            if not self.wanting(tap):
                del self.taps[connection]
                connection.transport.watch(None)
        if not self.running:
            self._broker.newcomers.remove(self._begun)
            self._broker.hooks.remove("connected", self._begun)

    # --- files ------------------------------------------------------------------------

    def _directory(self) -> str:
        settings = self._broker.settings
        directory = settings.trace.directory
        if not directory and settings.data_directory:
            directory = os.path.join(settings.data_directory, "traces")
        if not directory:
            raise TraceError("there is no place for files: name a directory in [trace]")
        return directory

    def recorded(self) -> list[str]:
        """Names of the traces that have files."""
        try:
            names = os.listdir(self._directory())
        except (OSError, TraceError):
            return []
        return sorted(
            name.removesuffix(SUFFIX)
            for name in names
            if name.endswith(SUFFIX) and re.fullmatch(NAME, name.removesuffix(SUFFIX))
        )

    def last_records(self, name: str, limit: int) -> list[dict[str, Any]]:
        """At most *limit* records from the end of the newest file; raises ``TraceError``."""
        if name not in self.recorded():
            raise TraceError(f"the trace {name!r} has no file")
        try:
            with open(os.path.join(self._directory(), name + SUFFIX), "rb") as file:
                begin = max(0, file.seek(0, os.SEEK_END) - TAIL)
                file.seek(begin)
                lines = file.read(TAIL).splitlines()
        except OSError as error:
            raise TraceError(f"cannot read {name + SUFFIX}: {error.strerror}") from error
        if begin:
            del lines[:1]  # a part of one
        return [json.loads(line) for line in lines[-limit:] if line.endswith(b"}")]

    def delete(self, name: str) -> bool:
        """End the trace and delete its files; False if there is neither.

        :raise TraceError: when a file cannot be deleted.
        """
        ended = self.end(name)
        if name not in self.recorded():
            return ended
        directory = self._directory()
        own = re.compile(re.escape(name + SUFFIX) + r"(\.\d+)?")
        try:
            for file in os.listdir(directory):
                if own.fullmatch(file):
                    os.unlink(os.path.join(directory, file))
        except OSError as error:
            raise TraceError(f"cannot delete {error.filename}: {error.strerror}") from error
        return True
