"""A store as lines of JSON that a person can read, and back.

``mqttctl store dump`` and ``import`` call it. The first line says what it is; then
come sessions, messages, the rows of their queues, what is retained, and what waits
for its time, one to a line. Times are UTC, bytes are text where they are UTF-8 and
base64 where they are not, properties have the names of the specification. A dump that
is read back gives the same store, but for the numbers that a store gives to things.
"""

from __future__ import annotations

import json
import sqlite3
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mqttd.interfaces import StoreError
from mqttd.store.directory import DirectoryLock
from mqttd.store.operations import clocks_of, find_database, reading
from mqttd.store.records import (
    SEQ_BITS,
    StoredMessage,
    decode_message,
    decode_will,
    encode_message,
    encode_will,
    is_released,
    order_of,
    packet_id_of,
    qos_of,
    retain_of,
    row_key,
    row_state,
    seq_of,
)
from mqttd.store.schema import DATABASE, Connection, explain, opened_store, put_meta
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.properties import PUBLISH, passthrough_of, read_properties, with_length

#: Of the lines; a reader takes no newer one.
FORMAT = 1


def dump(directory: str | Path) -> Iterator[dict[str, Any]]:
    """The store as it is now, one mapping for each line; a broker may run."""
    path = find_database(directory)
    with reading(path) as connection:
        try:
            yield from _lines(connection)
        except ValueError as error:
            raise StoreError(f"{error}; mqttctl store check tells more") from error


def _lines(connection: Connection) -> Iterator[dict[str, Any]]:
    kept, wall = clocks_of(connection)
    clock = _Clock(wall - kept)
    yield {"type": "store", "format": FORMAT}
    names = {}
    for sid, *columns in connection.execute("SELECT * FROM session ORDER BY sid"):
        names[sid] = columns[0]
        yield _session(connection, sid, columns, clock)
    for mid, body in connection.execute("SELECT mid, body FROM message ORDER BY mid"):
        yield {"type": "message", "message": mid, **_message(decode_message(body), clock)}
    for key, mid, size, state, identifiers, share, _ in connection.execute(
        "SELECT * FROM queue ORDER BY k"
    ):
        yield {
            "type": "queued",
            "client_id": names.get(key >> SEQ_BITS, ""),
            "place": seq_of(key),
            "message": mid,
            "size": size,
            "qos": qos_of(state),
            "retain": retain_of(state),
            "packet_id": packet_id_of(state) or None,
            "sent_as": order_of(state) or None,
            "released": is_released(state),
            "subscription_identifiers": [int(each) for each in (identifiers or "").split()],
            "shared_subscription": share,
        }
    for _, body in connection.execute("SELECT topic, body FROM retained ORDER BY topic"):
        yield {"type": "retained", **_message(decode_message(body), clock)}
    for due_at, body in connection.execute("SELECT due_at, body FROM delayed ORDER BY number"):
        due = {"due_at": clock.to_text(due_at)}
        yield {"type": "delayed", **due, **_message(decode_message(body), clock)}


def _session(connection: Connection, sid: int, columns: list[Any], clock: _Clock) -> dict[str, Any]:
    client_id, principal, mount_point, listener, expiry, created_at, ended_at, will = columns
    subscriptions = connection.execute(
        "SELECT filter, options, identifier, thinning FROM subscription WHERE sid = ?", (sid,)
    )
    incoming = connection.execute(
        "SELECT k & 65535 FROM incoming WHERE k >= ? AND k < ?", (sid << 16, (sid + 1) << 16)
    )
    line = {
        "type": "session",
        "client_id": client_id,
        "principal": principal,
        "mount_point": mount_point,
        "listener": listener,
        "expiry": expiry,
        "created_at": clock.to_text(created_at),
        "ended_at": None if ended_at is None else clock.to_text(ended_at),
        "subscriptions": [
            {
                "filter": topic_filter,
                "options": options,
                "identifier": identifier,
                "thinning": json.loads(thinning) if thinning else None,
            }
            for topic_filter, options, identifier, thinning in subscriptions
        ],
        "packet_ids": [packet_id for (packet_id,) in incoming],
        "will": None,
    }
    if will is not None:
        stored = decode_will(will)
        line["will"] = {
            "delay": stored.delay,
            "expiry": stored.expiry,
            **_message(stored.message, clock),
        }
    return line


def _message(message: StoredMessage, clock: _Clock) -> dict[str, Any]:
    line: dict[str, Any] = {
        "topic": message.topic,
        "qos": message.qos,
        "retain": message.retain,
        "created_at": clock.to_text(message.created_at),
        "expires_at": None if message.expires_at is None else clock.to_text(message.expires_at),
    }
    if message.source:
        line |= _bytes("source", message.source)
    if message.passthrough:
        line |= _properties(message.passthrough)
    return line | _bytes("payload", message.payload)


def _bytes(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name + "_base64": b64encode(data).decode()}


def _properties(block: bytes) -> dict[str, Any]:
    """By their names, where that gives the same bytes again."""
    try:
        data = with_length(block)
        properties, _ = read_properties(data, 0, len(data), PUBLISH, len(data))
        if passthrough_of(properties) == block:
            named: dict[str, Any] = dict(properties)
            if "correlation_data" in named:
                named |= _bytes("correlation_data", named.pop("correlation_data"))
            return {"properties": named}
    except (ProtocolViolation, ValueError):
        pass
    return {"properties_base64": b64encode(block).decode()}


class _Clock:
    """The store's time as people have it, and back."""

    def __init__(self, difference: float) -> None:
        """*difference*: Unix time less the store's."""
        self._difference = difference

    def to_text(self, moment: float) -> str:
        return datetime.fromtimestamp(moment + self._difference, UTC).isoformat()

    def from_text(self, text: str) -> float:
        return datetime.fromisoformat(text).timestamp() - self._difference


# --- import -----------------------------------------------------------------------


def load(lines: Iterable[str], directory: str | Path) -> dict[str, int]:
    """Add what *lines* say to the store in *directory*, all of it or nothing.

    No broker may run. Returns how many there were of each type. A session whose
    client id is there already is refused, a retained message replaces the one
    of its topic.
    """
    directory = Path(directory)
    lock = DirectoryLock(directory)
    lock.take()
    try:
        with opened_store(directory) as connection:
            connection.execute("BEGIN IMMEDIATE")
            counts = _Loader(connection).load(lines)
            connection.execute("COMMIT")
        return counts
    except sqlite3.Error as error:
        raise StoreError(explain(error, directory / DATABASE)) from error
    finally:
        lock.release()


class _Loader:
    """One import."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        kept, wall = clocks_of(connection)
        if not wall:
            kept = wall = time.time()
            put_meta(connection, time=kept, wall=wall)
        self._clock = _Clock(wall - kept)
        self._sids = dict(self._execute("SELECT client_id, sid FROM session"))
        self._existing = frozenset(self._sids)
        self._next_sid = max(self._sids.values(), default=0) + 1
        (last_mid,) = self._execute("SELECT max(mid) FROM message").fetchone()
        #: What is added to the numbers of messages.
        self._base = last_mid or 0
        #: Of the messages that have one.
        self._deadlines: dict[int, float] = {}
        self._counts: dict[str, int] = {}

    def load(self, lines: Iterable[str]) -> dict[str, int]:
        makers: dict[str, Callable[[dict[str, Any]], None]] = {
            "store": self._header,
            "session": self._session,
            "message": self._message,
            "queued": self._queued,
            "retained": self._retained,
            "delayed": self._delayed,
        }
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
                makers[line["type"]](line)
            except StoreError as error:
                raise StoreError(f"line {number}: {error}; nothing was imported") from error
            except (ValueError, KeyError, TypeError, AttributeError, sqlite3.Error) as error:
                raise StoreError(
                    f"line {number}: is not as a dump has it ({type(error).__name__}: {error}); "
                    "nothing was imported"
                ) from error
            self._counts[line["type"]] = self._counts.get(line["type"], 0) + 1
        self._finish()
        self._counts.pop("store", None)
        return self._counts

    def _header(self, line: dict[str, Any]) -> None:
        if line["format"] > FORMAT:
            raise StoreError(f"format {line['format']} is newer than this mqttd")

    def _session(self, line: dict[str, Any]) -> None:
        client_id, ended_at, will = line["client_id"], line["ended_at"], line["will"]
        if client_id in self._existing:
            raise StoreError(f"the store has a session of {client_id!r} already")
        sid = self._sids[client_id] = self._next_sid
        self._next_sid += 1
        columns = (
            sid,
            client_id,
            line["principal"],
            line["mount_point"],
            line["listener"],
            line["expiry"],
            self._clock.from_text(line["created_at"]),
            None if ended_at is None else self._clock.from_text(ended_at),
            None if will is None else encode_will(self._body(will), will["delay"], will["expiry"]),
        )
        self._execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", columns)
        for each in line["subscriptions"]:
            thinning = each.get("thinning")
            self._execute(
                "INSERT INTO subscription VALUES (?, ?, ?, ?, ?)",
                (
                    sid,
                    each["filter"],
                    each["options"],
                    each["identifier"],
                    json.dumps(thinning) if thinning else "",
                ),
            )
        for packet_id in line["packet_ids"]:
            self._execute("INSERT INTO incoming VALUES (?)", (sid << 16 | packet_id,))

    def _message(self, line: dict[str, Any]) -> None:
        mid = self._base + line["message"]
        self._execute("INSERT INTO message VALUES (?, ?)", (mid, self._body(line)))
        if line["expires_at"] is not None:
            self._deadlines[mid] = self._clock.from_text(line["expires_at"])

    def _queued(self, line: dict[str, Any]) -> None:
        state = row_state(
            line["qos"],
            line["retain"],
            line["packet_id"] or 0,
            line["sent_as"] or 0,
            line["released"],
        )
        identifiers = " ".join(map(str, line["subscription_identifiers"])) or None
        mid = self._base + line["message"]
        self._execute(
            # Its deadline is that of its message.
            "INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                row_key(self._sids[line["client_id"]], line["place"]),
                mid,
                line["size"],
                state,
                identifiers,
                line["shared_subscription"],
                self._deadlines.get(mid),
            ),
        )

    def _retained(self, line: dict[str, Any]) -> None:
        self._execute(
            "INSERT OR REPLACE INTO retained VALUES (?, ?)", (line["topic"], self._body(line))
        )

    def _delayed(self, line: dict[str, Any]) -> None:
        due_at = self._clock.from_text(line["due_at"])
        self._execute("INSERT INTO delayed VALUES (NULL, ?, ?)", (due_at, self._body(line)))

    def _body(self, line: dict[str, Any]) -> bytes:
        expires_at = line["expires_at"]
        return encode_message(
            line["topic"].encode(),
            _read_bytes(line, "payload"),
            line["qos"],
            line["retain"],
            _read_properties(line),
            self._clock.from_text(line["created_at"]),
            None if expires_at is None else self._clock.from_text(expires_at),
            _read_bytes(line, "source"),
        )

    def _finish(self) -> None:
        (missing,) = self._execute(
            "SELECT count(*) FROM queue WHERE mid NOT IN (SELECT mid FROM message)"
        ).fetchone()
        if missing:
            raise StoreError(f"{missing} queued messages have no message; nothing was imported")
        self._execute("DELETE FROM message WHERE mid NOT IN (SELECT mid FROM queue)")
        self._execute("DELETE FROM extra")
        self._execute(
            "INSERT INTO extra SELECT mid, count(*) - 1 FROM queue GROUP BY mid HAVING count(*) > 1"
        )


def _read_bytes(line: dict[str, Any], name: str) -> bytes:
    if name + "_base64" in line:
        return b64decode(line[name + "_base64"], validate=True)
    text: str = line.get(name, "")
    return text.encode()


def _read_properties(line: dict[str, Any]) -> bytes:
    if "properties_base64" in line:
        return b64decode(line["properties_base64"], validate=True)
    named = dict(line.get("properties", {}))
    if "correlation_data" in named or "correlation_data_base64" in named:
        data = _read_bytes(named, "correlation_data")
        named.pop("correlation_data_base64", None)
        named["correlation_data"] = data
    return passthrough_of(named)  # type: ignore[arg-type]
