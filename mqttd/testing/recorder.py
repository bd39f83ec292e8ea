"""What was published at a broker, for tests to ask and to wait for.

``attach`` puts a ``Recorder`` between a broker and its publish service, so it has
every message that was accepted, from whatever client, and from the broker itself
but for ``$SYS``. Where nothing is found, the ``AssertionError`` lists what was there.
How time passes while a test waits, its user says: a thread sleeps, a virtual clock is
moved.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from typing import Any

from attrs import field, frozen

from mqttd.broker.broker import Broker
from mqttd.broker.message import Message
from mqttd.broker.publish import PublishService
from mqttd.broker.roles import Publisher
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Properties
from mqttd.wire.topics import matches

#: Messages kept; a test that publishes more forgets the oldest.
MAXIMUM_RECORDED = 100_000

#: Messages that a failure lists at most, the last ones.
LISTED = 20

#: Bytes of a payload that a failure shows.
SHOWN = 60


@frozen
class Recorded:
    """One message that was published."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(factory=Properties)
    #: Who published it; None: the broker itself.
    client_id: str | None = None

    def __str__(self) -> str:
        payload = repr(self.payload[:SHOWN]) + ("..." if len(self.payload) > SHOWN else "")
        retained = ", retained" if self.retain else ""
        return f"{self.topic}  QoS {self.qos}{retained}  {payload}  by {self.client_id!r}"


class Recorder:
    """The messages that were published, in order."""

    def __init__(self, pause: Callable[[Recorder, float], float] | None = None) -> None:
        """*pause(recorder, seconds)* lets time pass until something was recorded, or
        the seconds are over, and returns how many of them passed; a thread waits by
        default."""
        self.changed = Condition()
        self._messages: list[Recorded] = []
        self._taken: set[int] = set()
        self._pause = pause or _sleep

    # --- asking -----------------------------------------------------------------------

    @property
    def messages(self) -> list[Recorded]:
        """All of them."""
        with self.changed:
            return list(self._messages)

    def select(
        self, topic_filter: str = "#", payload: bytes | None = None, **fields: Any
    ) -> list[Recorded]:
        """Those on topics that *topic_filter* matches, with this payload and these
        fields (``qos``, ``retain``, ``client_id``, or properties by name)."""
        return [m for m in self.messages if _fits(m, topic_filter, payload, fields)]

    def wait_for(
        self,
        topic_filter: str = "#",
        payload: bytes | None = None,
        *,
        timeout: float = 5.0,
        where: Callable[[Recorded], bool] | None = None,
        **fields: Any,
    ) -> Recorded:
        """The first such message that no ``wait_for`` has returned before.

        :param timeout: seconds after which it is an ``AssertionError``.
        :param where: what else must be true of it.
        """
        __tracebackhide__ = True  # pytest shows the test, and not this
        wanted = _wanted(topic_filter, payload, fields, where)
        while True:
            with self.changed:
                for index, message in enumerate(self._messages):
                    if index in self._taken or not _fits(message, topic_filter, payload, fields):
                        continue
                    if where is None or where(message):
                        self._taken.add(index)
                        return message
                if timeout <= 0:
                    raise AssertionError(self._nothing(f"no message {wanted} came"))
            timeout -= self._pause(self, timeout)

    def expect_none(
        self, topic_filter: str = "#", payload: bytes | None = None, **fields: Any
    ) -> None:
        """Fail if there is such a message that no ``wait_for`` has returned."""
        __tracebackhide__ = True
        found = [
            message
            for index, message in enumerate(self.messages)
            if index not in self._taken and _fits(message, topic_filter, payload, fields)
        ]
        if found:
            wanted = _wanted(topic_filter, payload, fields, None)
            raise AssertionError(f"{len(found)} messages {wanted} came, the first is: {found[0]}")

    def clear(self) -> None:
        """Forget everything."""
        with self.changed:
            self._messages.clear()
            self._taken.clear()

    def _nothing(self, text: str) -> str:
        if not self._messages:
            return f"{text}; nothing was published at all"
        lines = [
            f"  {index + 1}. {message}" + ("  (returned before)" if index in self._taken else "")
            for index, message in enumerate(self._messages)
        ]
        more = len(lines) - LISTED
        if more > 0:
            lines = [f"  ... {more} more", *lines[-LISTED:]]
        return "\n".join([f"{text}; published were:", *lines])

    # --- recording --------------------------------------------------------------------

    def note(self, message: Message) -> None:
        """*message* was published."""
        recorded = Recorded(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            message.properties,
            message.publisher,
        )
        with self.changed:
            if len(self._messages) >= MAXIMUM_RECORDED:
                del self._messages[: MAXIMUM_RECORDED // 2]
                self._taken.clear()
            self._messages.append(recorded)
            self.changed.notify_all()


class _RecordingService(PublishService):
    """The publish service with an ear."""

    def __init__(self, broker: Broker, recorder: Recorder) -> None:
        super().__init__(broker)
        self._recorder = recorder

    def publish(self, message: Message, publisher: Publisher | None = None) -> ReasonCode:
        if message.publisher is not None or not message.topic.startswith("$SYS/"):
            self._recorder.note(message)
        return super().publish(message, publisher)


def attach(broker: Broker, recorder: Recorder) -> None:
    """Let *recorder* have what is published at *broker*, which has no client yet."""
    broker.publisher = _RecordingService(broker, recorder)
    # It goes past the publish service.
    broker.use_fast_lane = False


def _sleep(recorder: Recorder, seconds: float) -> float:
    from time import monotonic

    began = monotonic()
    with recorder.changed:
        recorder.changed.wait(min(seconds, 0.5))
    return monotonic() - began


def _fits(
    message: Recorded, topic_filter: str, payload: bytes | None, fields: dict[str, Any]
) -> bool:
    if not matches(topic_filter, message.topic) or payload not in (None, message.payload):
        return False
    properties: Any = message.properties
    return all(
        (getattr(message, name) if hasattr(message, name) else properties.get(name)) == value
        for name, value in fields.items()
    )


def _wanted(
    topic_filter: str,
    payload: bytes | None,
    fields: dict[str, Any],
    where: Callable[[Recorded], bool] | None,
) -> str:
    parts = [f"on {topic_filter!r}"]
    if payload is not None:
        parts.append(f"with payload {payload!r}")
    parts += [f"with {name} {value!r}" for name, value in fields.items()]
    if where is not None:
        parts.append(f"for which {getattr(where, '__name__', where)} is true")
    return " ".join(parts)
