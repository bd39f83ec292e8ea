"""paho-mqtt, with a thread for each client; and aiomqtt, which is built on it."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.end_to_end.clients import (
    FOR_EVER,
    Client,
    Library,
    Message,
    Refused,
    Target,
    Will,
    fields_of,
    hang_up,
    tls_context,
)
from tests.end_to_end.daemon import PATIENCE


def properties_of(packet: int, given: dict[str, Any]) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in given.items():
        setattr(properties, "".join(word.capitalize() for word in name.split("_")), value)
    return properties


def from_paho(properties: Any) -> dict[str, Any]:
    found = {} if properties is None else dict(vars(properties))
    return {
        re.sub("(?<!^)(?=[A-Z])", "_", name).lower(): value
        for name, value in found.items()
        if name[0].isupper()
    }


class Paho(Library):
    def make(self, target: Target, client_id: str, keep: bool, will: Will | None) -> Client:
        return PahoClient(self.version, target, client_id, keep, will)


class PahoClient(Client):
    def __init__(
        self, version: int, target: Target, client_id: str, keep: bool, will: Will | None
    ) -> None:
        super().__init__()
        self.version = version
        self._answers: queue.Queue[Any] = queue.Queue()
        self.disconnected: queue.Queue[Any] = queue.Queue()
        self.library = library = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if version == 5 else not keep,
            protocol=MQTTProtocolVersion(version),
            transport="unix" if target.path else "websockets" if target.websocket else "tcp",
            reconnect_on_failure=False,
        )
        library.on_connect = self._connected
        library.on_subscribe = lambda *arguments: self._answers.put(arguments[3])
        library.on_message = self._message
        library.on_disconnect = lambda *arguments: self.disconnected.put(arguments[3])
        if target.websocket:
            library.ws_set_options(path=target.websocket)
        if target.user_name is not None:
            library.username_pw_set(target.user_name, target.password)
        if target.authority:
            library.tls_set_context(tls_context(target))
        if will is not None:
            library.will_set(will.topic, will.payload, will.qos, will.retain)
        more: dict[str, Any] = {}
        if version == 5:
            expiry = {"session_expiry_interval": FOR_EVER} if keep else {}
            more = {
                "clean_start": not keep,
                "properties": properties_of(PacketTypes.CONNECT, expiry),
            }
        library.connect(target.path or "127.0.0.1", target.port or 1883, **more)
        library.loop_start()
        reason, self.session_present = self._answers.get(timeout=PATIENCE)
        if reason.is_failure:
            library.loop_stop()
            raise Refused(str(reason))

    def _connected(self, library: Any, data: Any, flags: Any, reason: Any, more: Any) -> None:
        self._answers.put((reason, flags.session_present))

    def _message(self, library: Any, data: Any, message: Any) -> None:
        properties = from_paho(getattr(message, "properties", None))
        self.messages.put(
            Message(message.topic, message.payload, message.qos, bool(message.retain), properties)
        )

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        self.library.subscribe(topic_filter, qos)
        (reason,) = self._answers.get(timeout=PATIENCE)
        assert reason.value == qos, reason

    def publish(
        self, topic: str, payload: str, qos: int = 0, retain: bool = False, **properties: Any
    ) -> None:
        more = properties_of(PacketTypes.PUBLISH, properties) if properties else None
        info = self.library.publish(topic, payload, qos, retain, more)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def publish_many(self, topic: str, payloads: Iterable[str], qos: int) -> None:
        sent = [self.library.publish(topic, payload, qos) for payload in payloads]
        for info in sent:
            info.wait_for_publish(PATIENCE)
            assert info.is_published()

    def disconnect(self) -> None:
        self.library.disconnect()
        self.library.loop_stop()

    def drop(self) -> None:
        hang_up(self.library.socket())
        self.library.loop_stop()


class Aiomqtt(Library):
    def __init__(self, version: int) -> None:
        super().__init__(version)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def make(self, target: Target, client_id: str, keep: bool, will: Will | None) -> Client:
        return AiomqttClient(self._loop, self.version, target, client_id, keep, will)

    def close(self) -> None:
        super().close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


class AiomqttClient(Client):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        version: int,
        target: Target,
        client_id: str,
        keep: bool,
        will: Will | None,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        more: dict[str, Any] = {"clean_session": not keep}
        if version == 5:
            expiry = {"session_expiry_interval": FOR_EVER} if keep else {}
            more = {
                "clean_start": not keep,
                "properties": properties_of(PacketTypes.CONNECT, expiry),
            }
        if target.authority:
            more["tls_context"] = tls_context(target)
        self._arguments = {
            "hostname": target.path or "127.0.0.1",
            "port": target.port or 1883,
            "identifier": client_id,
            "protocol": aiomqtt.ProtocolVersion(version),
            "transport": "unix" if target.path else "tcp",
            "username": target.user_name,
            "password": target.password,
            "will": None if will is None else aiomqtt.Will(**fields_of(will)),
            "timeout": PATIENCE,
            **more,
        }
        self._run(self._begin())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _begin(self) -> None:
        self._library = aiomqtt.Client(**self._arguments)
        try:
            await self._library.__aenter__()
        except aiomqtt.MqttError as error:
            raise Refused(str(error)) from error
        self._task = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        try:
            async for message in self._library.messages:
                assert isinstance(message.payload, bytes)
                properties = from_paho(message.properties)
                self.messages.put(
                    Message(
                        str(message.topic),
                        message.payload,
                        message.qos,
                        bool(message.retain),
                        properties,
                    )
                )
        except aiomqtt.MqttError:
            pass  # Connection lost, as the test wants it.

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        (granted,) = self._run(self._library.subscribe(topic_filter, qos))
        assert getattr(granted, "value", granted) == qos, granted

    def publish(
        self, topic: str, payload: str, qos: int = 0, retain: bool = False, **properties: Any
    ) -> None:
        more = properties_of(PacketTypes.PUBLISH, properties) if properties else None
        self._run(self._library.publish(topic, payload, qos, retain, more))

    def publish_many(self, topic: str, payloads: Iterable[str], qos: int) -> None:
        async def publish() -> None:
            for payload in payloads:
                await self._library.publish(topic, payload, qos)

        self._run(publish())

    def disconnect(self) -> None:
        self._run(self._end())

    def drop(self) -> None:
        hang_up(self._library._client.socket())
        self._run(self._end())

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # It may be disconnected already.
            with suppress(aiomqtt.MqttError):
                await self._library.__aexit__(None, None, None)
