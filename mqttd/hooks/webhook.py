"""Web hook: events of the broker posted to an HTTP server, in batches of JSON.

It only observes, and nothing waits for it: events gather in a bounded queue and go out
as a list, in order, one request at a time. A batch that the server does not take is
tried again with growing pauses and at last given up; what is lost is counted. It
needs treq, the extra ``webhook``.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mqttd.broker.hooks import DECIDING, EVENTS
from mqttd.broker.message import Message
from mqttd.fields import checked, count, one_of, seconds, size, text, texts
from mqttd.hooks.rewrite import is_filter
from mqttd.wire.topics import matches

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker

log = Logger()

#: What can be posted: all that is observed, and messages as they come in.
POSTED = tuple(event for event in EVENTS if event not in DECIDING or event == "message_publish")

#: Seconds before the first repetition of a request, and the longest pause.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

#: Posts a body, with headers, and fires with the status code.
Post = Callable[[bytes, dict[str, str]], "Deferred[int]"]


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


@frozen
class WebHookSettings:
    """Where to, and what."""

    #: Where events are posted.
    url: str = checked("http://127.0.0.1/", "a URL with http: or https:", _is_url)
    #: Events by name, as ``interfaces.IHooks`` has them.
    events: tuple[str, ...] = texts(
        ("connected", "disconnected"),
        "a list of " + ", ".join(f'"{event}"' for event in POSTED),
        lambda event: event in POSTED,
    )
    #: Topics that events of messages are posted for.
    topics: tuple[str, ...] = texts(("#",), "a list of topic filters", is_filter)
    #: How the payload of a message is written; "none" leaves it out.
    payload: str = one_of("base64", "base64", "text", "none")
    #: A file whose content goes into the header Authorization, after "Bearer"; "" for none.
    token_file: str = text()
    #: Events in one request.
    maximum_batch: int = count(100, 1, 10_000)
    #: Seconds that events gather for a request.
    interval: float = seconds(1.0, 0.01, 3600)
    #: Seconds for one request, its answer included.
    timeout: float = seconds(10.0, 0.1, 600)
    #: How often a request is tried before its events are given up.
    attempts: int = count(5, 1, 1000)
    #: Events that may wait; then the oldest are dropped.
    maximum_waiting: int = count(10_000, 1)
    #: Bytes of those that wait, as JSON.
    maximum_bytes: int = size(16 * 1024 * 1024, 1)


class WebHook:
    """Posts events to an HTTP server, in batches of JSON."""

    Settings = WebHookSettings

    def __init__(
        self,
        settings: WebHookSettings,
        post: Post | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """*post* sends requests; by default treq does."""
        self._settings = settings
        self._post = post
        self._wall_clock = wall_clock
        self._close: Callable[[], Any] = lambda: None
        self._headers = {"Content-Type": "application/json"}
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._call: IDelayedCall | None = None
        self._sending = False
        self._stopped: Deferred[None] | None = None
        #: Fires when the next try is due.
        self._pausing: Deferred[None] | None = None
        self._broker: Broker
        #: Events posted, and events lost.
        self.posted = 0
        self.lost = 0
        self.topics = () if settings.topics == ("#",) else settings.topics
        for event in settings.events:
            setattr(self, event, self._observer(event))

    def __len__(self) -> int:
        """Events that wait."""
        return len(self._waiting)

    # --- life -------------------------------------------------------------------------

    def start(self, broker: Broker) -> None:
        """Raises ``OSError`` when the token cannot be read, ``ImportError`` without treq."""
        self._broker = broker
        if self._settings.token_file:
            token = Path(self._settings.token_file).read_text(encoding="utf-8").strip()
            self._headers["Authorization"] = f"Bearer {token}"
        if self._post is None:
            self._post, self._close = make_post(
                broker.clock, self._settings.url, self._settings.timeout
            )

    def stop(self) -> Deferred[None]:
        """Post what waits, each batch once, and close."""
        self._stopped = Deferred()
        stopped = self._stopped
        self._cancel()
        if self._pausing is not None:
            self._pausing.callback(None)
        elif not self._sending:
            self._send()
        return stopped

    def _finish(self) -> None:
        stopped = self._stopped
        if stopped is None or stopped.called:
            return
        self._lose(len(self._waiting))
        closed = self._close()
        if isinstance(closed, Deferred):
            closed.addBoth(lambda _: stopped.callback(None))
        else:
            stopped.callback(None)

    def _cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    # --- events in ----------------------------------------------------------------------

    def _observer(self, event: str) -> Callable[..., None]:
        def observe(*arguments: Any) -> None:
            message = arguments[0]
            if isinstance(message, Message) and not any(
                matches(wanted, message.topic) for wanted in self._settings.topics
            ):
                return
            self._note({"event": event, "time": self._wall_clock(), **self._told(arguments)})

        observe.__qualname__ = f"WebHook.{event}"
        return observe

    def _told(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """What the arguments of a hook are in JSON."""
        told: dict[str, Any] = {}
        for argument in arguments:
            if isinstance(argument, Message):
                told |= self._message(argument)
            elif hasattr(argument, "topic_filter"):
                told |= {"filter": argument.topic_filter, "qos": argument.qos}
            elif hasattr(argument, "client_id"):
                told["client_id"] = argument.client_id
                told["principal"] = argument.principal
                if hasattr(argument, "peer"):
                    told["address"] = argument.peer.address
                    told["user_name"] = argument.user_name
        texts_left = [argument for argument in arguments if isinstance(argument, str)]
        names = ("client_id", "reason") if len(texts_left) == 2 else ("detail",)
        return told | dict(zip(names, texts_left, strict=False))

    def _message(self, message: Message) -> dict[str, Any]:
        told: dict[str, Any] = {
            "topic": message.topic,
            "qos": message.qos,
            "retain": message.retain,
            "publisher": message.publisher,
        }
        if self._settings.payload == "base64":
            told["payload"] = b64encode(message.payload).decode()
        elif self._settings.payload == "text":
            told["payload"] = message.payload.decode("utf-8", "replace")
        return told

    def _note(self, told: dict[str, Any]) -> None:
        line = json.dumps(told).encode()
        self._waiting.append(line)
        self._bytes += len(line)
        settings = self._settings
        while self._waiting and (
            len(self._waiting) > settings.maximum_waiting or self._bytes > settings.maximum_bytes
        ):
            self._bytes -= len(self._waiting.popleft())
            self._lose(1)
        if self._sending or self._stopped is not None:
            return
        if len(self._waiting) >= settings.maximum_batch:
            # In the next turn: whoever told us of the event is in the middle of it.
            self._wait(0)
        elif self._call is None:
            self._wait(settings.interval)

    def _lose(self, number: int) -> None:
        if number:
            self.lost += number
            self._broker.metrics.dropped["webhook"] += number

    # --- requests out --------------------------------------------------------------------

    def _wait(self, delay: float) -> None:
        self._cancel()
        self._call = self._broker.clock.callLater(delay, self._send)

    def _send(self) -> None:
        self._cancel()
        self._sending = True
        Deferred.fromCoroutine(self._send_batches()).addErrback(self._broke)

    async def _send_batches(self) -> None:
        settings = self._settings
        while self._waiting:
            number = min(len(self._waiting), settings.maximum_batch)
            batch = [self._waiting.popleft() for _ in range(number)]
            self._bytes -= sum(map(len, batch))
            if await self._try(b"[" + b",".join(batch) + b"]"):
                self.posted += len(batch)
            else:
                self._lose(len(batch))
            if self._stopped is None and len(self._waiting) < settings.maximum_batch:
                break
        self._sending = False
        if self._stopped is not None:
            self._finish()
        elif self._waiting:
            self._wait(settings.interval)

    async def _try(self, body: bytes) -> bool:
        """Whether the server has taken *body*, sooner or later."""
        pause = FIRST_PAUSE
        problem = ""
        for attempt in range(self._settings.attempts):
            if attempt and self._stopped is None:
                await self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            if attempt and self._stopped is not None:
                break
            assert self._post is not None
            try:
                status = await self._post(body, self._headers)
            except Exception as error:
                problem = str(error) or type(error).__name__
                continue
            if 200 <= status < 300:
                return True
            problem = f"status {status}"
            if 400 <= status < 500 and status not in (408, 429):
                break  # it would say so again
        log.error("{url} does not take events: {problem}", url=self._settings.url, problem=problem)
        return False

    async def _pause(self, delay: float) -> None:
        over: Deferred[None] = Deferred()
        self._pausing = over
        self._call = self._broker.clock.callLater(delay, over.callback, None)
        await over
        self._pausing = self._call = None

    def _broke(self, failure: Any) -> None:
        log.failure("The web hook failed", failure)
        self._sending = False
        self._finish()


def make_post(reactor: Any, url: str, timeout: float) -> tuple[Post, Callable[[], Any]]:
    """What posts to *url* by treq, and what closes its connections.

    :raise ImportError: treq is not there.
    """
    try:
        import treq
        from treq.client import HTTPClient
    except ImportError:
        raise ImportError("the web hook needs treq: pip install 'txmqttd[webhook]'") from None
    from twisted.web.client import Agent, HTTPConnectionPool

    pool = HTTPConnectionPool(reactor)
    client = HTTPClient(Agent(reactor, connectTimeout=timeout, pool=pool))

    async def post(body: bytes, headers: Any) -> int:
        response = await client.post(
            url, data=body, headers=headers, allow_redirects=False, unbuffered=True
        )
        # What it says does not matter, but the connection is free only after it.
        await treq.collect(response, lambda _: None)
        return int(response.code)

    def bounded(body: bytes, headers: dict[str, str]) -> Deferred[int]:
        return Deferred.fromCoroutine(post(body, headers)).addTimeout(timeout, reactor)

    return bounded, pool.closeCachedConnections
