"""MQTT.js: all clients live in one process of node, which does what it is told."""

from __future__ import annotations

import itertools
import json
import queue
import re
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.end_to_end.clients import (
    FOR_EVER,
    Client,
    Library,
    Message,
    Refused,
    Target,
    Will,
    fields_of,
    unique,
)
from tests.end_to_end.daemon import PATIENCE


class MQTTjs(Library):
    def __init__(self, version: int, node: str, node_modules: Path) -> None:
        super().__init__(version)
        self._process = subprocess.Popen(
            [node, str(Path(__file__).with_name("mqtt_js.cjs"))],
            env={"NODE_PATH": str(node_modules), "PATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[Any]] = {}
        self._clients: dict[str, MQTTjsClient] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = json.loads(line)
            if "answer" in found:
                self._answers[found["answer"]].put(found)
            else:
                self._clients[found["client"]].arrived(found)

    def ask(self, action: str, **fields: Any) -> Any:
        """The result of *action*; raises ``Refused`` with the library's own words."""
        number = next(self._numbers)
        answer = self._answers[number] = queue.Queue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"ask": number, "action": action, **fields}) + "\n")
        self._process.stdin.flush()
        found = answer.get(timeout=PATIENCE)
        if "error" in found:
            raise Refused(found["error"])
        return found.get("result")

    def make(self, target: Target, client_id: str, keep: bool, will: Will | None) -> Client:
        return MQTTjsClient(self, target, client_id, keep, will)

    def add(self, name: str, client: MQTTjsClient) -> None:
        self._clients[name] = client

    def close(self) -> None:
        super().close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


class MQTTjsClient(Client):
    def __init__(
        self, library: MQTTjs, target: Target, client_id: str, keep: bool, will: Will | None
    ) -> None:
        super().__init__()
        self._library = library
        self._name = unique("js")
        library.add(self._name, self)
        options: dict[str, Any] = {
            "clientId": client_id,
            "clean": not keep,
            "protocolVersion": library.version,
            "protocolId": "MQIsdp" if library.version == 3 else "MQTT",
        }
        if library.version == 5:
            # Let the library use what it has: aliases both ways.
            properties: dict[str, Any] = {"topicAliasMaximum": 8}
            if keep:
                properties["sessionExpiryInterval"] = FOR_EVER
            options |= {"properties": properties, "autoAssignTopicAlias": True}
        if target.path:
            options |= {"path": target.path}
        elif target.websocket:
            protocol = "wss" if target.authority else "ws"
            options |= {"protocol": protocol, "host": "127.0.0.1", "port": target.port}
            options |= {"path": target.websocket}
        elif target.authority:
            options |= {"protocol": "mqtts", "host": "127.0.0.1", "port": target.port}
        else:
            options |= {"protocol": "mqtt", "host": "127.0.0.1", "port": target.port}
        if target.user_name is not None:
            options |= {"username": target.user_name, "password": target.password}
        if will is not None:
            options["will"] = fields_of(will)
        files = {"ca": target.authority, "cert": target.certificate, "key": target.key}
        self._ask("connect", options=options, files={k: v for k, v in files.items() if v})

    def _ask(self, action: str, **fields: Any) -> Any:
        return self._library.ask(action, client=self._name, **fields)

    def arrived(self, found: dict[str, Any]) -> None:
        properties = _from_camel(found["properties"])
        self.messages.put(
            Message(
                found["topic"],
                bytes.fromhex(found["payload"]),
                found["qos"],
                found["retain"],
                properties,
            )
        )

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        granted = self._ask("subscribe", topic=topic_filter, qos=qos)
        assert granted == [qos], granted

    def publish(
        self, topic: str, payload: str, qos: int = 0, retain: bool = False, **properties: Any
    ) -> None:
        self._ask(
            "publish",
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            properties=_to_camel(properties),
        )

    def publish_many(self, topic: str, payloads: Iterable[str], qos: int) -> None:
        self._ask("publish_many", topic=topic, payloads=list(payloads), qos=qos)

    def disconnect(self) -> None:
        self._ask("disconnect")

    def drop(self) -> None:
        self._ask("drop")


def _to_camel(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        first, *others = name.split("_")
        if name == "user_property":
            found["userProperties"] = dict(value)
        else:
            camel = first + "".join(word.capitalize() for word in others)
            found[camel] = value.decode() if isinstance(value, bytes) else value
    return found


def _from_camel(given: dict[str, Any]) -> dict[str, Any]:
    found = {
        re.sub("(?=[A-Z])", "_", name).lower(): value
        for name, value in given.items()
        if name != "userProperties"
    }
    if "userProperties" in given:
        found["user_property"] = [
            (name, each)
            for name, value in given["userProperties"].items()
            for each in (value if isinstance(value, list) else [value])
        ]
    if "correlation_data" in found:
        found["correlation_data"] = bytes.fromhex(found["correlation_data"])
    return found
