"""mosquitto_pub and mosquitto_sub: each subscription and publication is a process."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterable
from typing import Any

from tests.end_to_end.clients import Client, Library, Message, Refused, Target, Will, unique
from tests.end_to_end.daemon import PATIENCE


class Mosquitto(Library):
    def __init__(self, version: int, publisher: str, subscriber: str) -> None:
        super().__init__(version)
        self.publisher = publisher
        self.subscriber = subscriber
        self.leaves_with_will = version == 5

    def make(self, target: Target, client_id: str, keep: bool, will: Will | None) -> Client:
        return MosquittoClient(self, target, client_id, keep, will)


class MosquittoClient(Client):
    def __init__(
        self, library: Mosquitto, target: Target, client_id: str, keep: bool, will: Will | None
    ) -> None:
        super().__init__()
        self._library = library
        self._client_id = client_id
        self._keep = ["-c"] if keep else []
        self._will = [] if will is None else _mosquitto_will(will)
        self._target = _mosquitto_target(library.version, target)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._said: list[str] = []
        if keep or will is not None:
            # Only a subscriber stays connected.
            self.subscribe(unique("nothing/"))
        else:
            # Find out whether we may come in at all.
            self._publish_by_process([], "")

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        self._end(signal.SIGTERM)
        self._subscribed.clear()
        self._process = subprocess.Popen(
            [
                # Without it "Subscribed" stays in a buffer until the end.
                *("stdbuf", "-oL"),
                self._library.subscriber,
                *self._target,
                *("-i", self._client_id),
                *self._keep,
                *self._will,
                *("-t", topic_filter, "-q", str(qos), "-d", "-F", "%j"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._subscribed.wait(PATIENCE) or self._process.poll() is not None:
            raise Refused("".join(self._said))

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        previous = ""
        for line in process.stdout:
            self._said.append(line[:200])
            if line.startswith("Subscribed"):
                self._subscribed.set()
            elif line.startswith("{") and line != previous:
                self.messages.put(_from_json(json.loads(line)))
            # mosquitto_sub logs within its signal handler, which may write out once
            # more what was just being written: the same line, microseconds included.
            previous = line
        process.stdout.close()
        self._subscribed.set()

    def publish(
        self, topic: str, payload: str, qos: int = 0, retain: bool = False, **properties: Any
    ) -> None:
        more = ["-r"] if retain else []
        for name, value in properties.items():
            identifier = name.replace("_", "-")
            values = value if name == "user_property" else [(value,)]
            for texts in values:
                more += ["-D", "publish", identifier, *map(_text, texts)]
        self._publish_by_process(
            ["-t", topic, "-q", str(qos), *more, "-s" if payload else "-n"], payload
        )

    def publish_many(self, topic: str, payloads: Iterable[str], qos: int) -> None:
        self._publish_by_process(["-t", topic, "-q", str(qos), "-l"], "\n".join(payloads) + "\n")

    def _publish_by_process(self, arguments: list[str], payload: str) -> None:
        found = subprocess.run(
            [
                self._library.publisher,
                *self._target,
                *("-i", unique("publisher")),
                *(arguments or ["-t", unique("nothing/"), "-n"]),
            ],
            input=payload,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        if found.returncode:
            raise Refused(found.stdout)

    def disconnect(self) -> None:
        self._end(signal.SIGTERM)

    def drop(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE)
            assert self._reader is not None
            self._reader.join(PATIENCE)


def _mosquitto_target(version: int, target: Target) -> list[str]:
    words = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}
    found = ["-V", words[version]]
    found += ["--unix", target.path] if target.path else ["-h", "127.0.0.1", "-p", str(target.port)]
    if target.authority:
        found += ["--cafile", target.authority]
    if target.certificate:
        found += ["--cert", target.certificate, "--key", target.key]
    if target.user_name is not None:
        found += ["-u", target.user_name, "-P", target.password or ""]
    return found


def _mosquitto_will(will: Will) -> list[str]:
    retain = ["--will-retain"] if will.retain else []
    texts = {"topic": will.topic, "payload": will.payload, "qos": str(will.qos)}
    return [part for name, text in texts.items() for part in (f"--will-{name}", text)] + retain


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _from_json(found: dict[str, Any]) -> Message:
    properties: dict[str, Any] = {}
    for name, value in found.get("properties", {}).items():
        properties[name.replace("-", "_")] = value
    if "user_properties" in properties:
        properties["user_property"] = list(properties.pop("user_properties").items())
    if "correlation_data" in properties:
        properties["correlation_data"] = properties["correlation_data"].encode()
    return Message(
        found["topic"],
        (found.get("payload") or "").encode(),
        found["qos"],
        bool(found["retain"]),
        properties,
    )
