"""The hooks of one broker: who is told of what happens, and asked before it does.

Plugins and embedding programs add functions to events (``interfaces.IHooks`` says
which there are and what each may answer); the rooms of the broker call ``tell`` or
``ask`` where an event happens. A chain without hooks is an empty tuple, and looking
at it is all that an unused event costs. Whatever a hook does, nothing of it gets
out of here but a valid answer: what fails, or answers nonsense, or does not answer
in time, has refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.broker.message import Message
from mqttd.interfaces import Divert, Refuse
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import SubscriptionRequest
from mqttd.wire.topics import matches

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker

log = Logger()

#: Seconds for which a hook may hold up the reactor before the log says so.
SLOW = 0.25

#: Seconds between two complaints about the same hook; what happens in between is
#: counted only.
COMPLAINT_INTERVAL = 10.0

#: Events that decide -> what may stand in place of their first argument.
DECIDING: dict[str, Callable[[Any, Any], bool]] = {
    "connect": lambda old, new: False,
    "authenticated": lambda old, new: False,
    "subscribe": lambda old, new: _is_list(new, old, SubscriptionRequest),
    "unsubscribe": lambda old, new: _is_list(new, old, str),
    "message_publish": lambda old, new: _is_message(old, new),
    "will": lambda old, new: _is_message(old, new),
}

OBSERVING = (
    "connected",
    "disconnected",
    "subscribed",
    "unsubscribed",
    "session_created",
    "session_resumed",
    "session_taken_over",
    "session_discarded",
    "session_expired",
    "message_delivered",
    "message_acknowledged",
    "message_dropped",
)

EVENTS = (*DECIDING, *OBSERVING)

#: Events that the fast lane would pass by.
_BESIDE_THE_LANE = ("message_publish", "message_delivered", "message_acknowledged")

#: Events for which a hook may name topics.
_TOPICAL = (*_BESIDE_THE_LANE, "message_dropped", "will")


def _is_list(new: Any, old: list[Any], kind: type) -> bool:
    return (
        isinstance(new, list)
        and len(new) == len(old)
        and all(isinstance(item, (kind, Refuse)) for item in new)
    )


def _is_message(old: Message, new: Any) -> bool:
    return (
        isinstance(new, Message)
        and isinstance(new.topic, str)
        and isinstance(new.payload, bytes)
        and new.qos == old.qos
    )


class Failed(Refuse):
    """The refusal of a hook that did not decide: it broke, or took too long."""


FAILED = Failed(ReasonCode.UNSPECIFIED_ERROR, "an error of the server")


class Hook:
    """One function at one event."""

    __slots__ = ("function", "next_complaint", "priority", "topics", "unsaid")

    def __init__(
        self, function: Callable[..., Any], priority: int, topics: tuple[str, ...]
    ) -> None:
        self.function = function
        self.priority = priority
        #: Filters of the topics that it wants to see; none: all.
        self.topics = topics
        self.next_complaint = 0.0
        #: Complaints swallowed since the last one.
        self.unsaid = 0

    def wants(self, topic: str) -> bool:
        """Whether a message on *topic* is for this hook."""
        return not self.topics or any(matches(wanted, topic) for wanted in self.topics)

    @property
    def name(self) -> str:
        return getattr(self.function, "__qualname__", None) or repr(self.function)


Chain = tuple[Hook, ...]


class Hooks:
    """The chains of one broker, one attribute for each event."""

    connect: Chain = ()
    authenticated: Chain = ()
    subscribe: Chain = ()
    unsubscribe: Chain = ()
    message_publish: Chain = ()
    will: Chain = ()
    connected: Chain = ()
    disconnected: Chain = ()
    subscribed: Chain = ()
    unsubscribed: Chain = ()
    session_created: Chain = ()
    session_resumed: Chain = ()
    session_taken_over: Chain = ()
    session_discarded: Chain = ()
    session_expired: Chain = ()
    message_delivered: Chain = ()
    message_acknowledged: Chain = ()
    message_dropped: Chain = ()
    #: A hook wants to see messages that the fast lane would not show it.
    blocks_lane = False
    #: Those that look on at messages which the fast lane would not show them.
    watching: Chain = ()

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    # --- who is interested ------------------------------------------------------

    def add(
        self,
        event: str,
        function: Callable[..., Any],
        priority: int = 0,
        topics: Iterable[str] = (),
    ) -> None:
        """Call *function* at *event*, after those of lower priority and, among equals,
        those that were there before.

        With *topics*, which are filters, it is called about messages on these only;
        the others keep the fast lane.

        :raise ValueError: there is no such event, or none that has a topic.
        """
        topics = tuple(topics)
        if topics and event in EVENTS and event not in _TOPICAL:
            raise ValueError(f"the event {event!r} has no topic to choose by")
        chain = (*self._chain(event), Hook(function, priority, topics))
        self._set(event, tuple(sorted(chain, key=lambda hook: hook.priority)))

    def remove(self, event: str, function: Callable[..., Any]) -> None:
        """Call *function* at *event* no more; it need not have been added."""
        self._set(event, tuple(h for h in self._chain(event) if h.function != function))

    def add_plugin(self, plugin: object, priority: int = 0) -> None:
        """Add every method of *plugin* that has the name of an event.

        Its attribute ``topics``, if there is one, goes with ``message_publish``,
        ``message_delivered`` and ``message_acknowledged``.
        """
        for event in EVENTS:
            function = getattr(plugin, event, None)
            if callable(function):
                topics = getattr(plugin, "topics", ()) if event in _BESIDE_THE_LANE else ()
                self.add(event, function, priority, topics)

    def remove_plugin(self, plugin: object) -> None:
        """Take out what ``add_plugin`` has added."""
        for event in EVENTS:
            function = getattr(plugin, event, None)
            if callable(function):
                self.remove(event, function)

    def _chain(self, event: str) -> Chain:
        if event not in EVENTS:
            near = get_close_matches(event, EVENTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(EVENTS)}"
            raise ValueError(f"no event {event!r}: {hint}")
        chain: Chain = getattr(self, event)
        return chain

    def _set(self, event: str, chain: Chain) -> None:
        setattr(self, event, chain)
        self.blocks_lane = any(
            not hook.topics for name in _BESIDE_THE_LANE for hook in getattr(self, name)
        )
        self.watching = self.message_delivered + self.message_acknowledged
        if event in _BESIDE_THE_LANE:
            # What the fast lane has learned may be for a hook from now on.
            for connection in self._broker.connections.values():
                connection.routes = None

    def concerns(self, topic: str) -> bool:
        """Whether a message that comes with *topic* is for any hook."""
        return any(hook.wants(topic) for hook in self.message_publish)

    def watches(self, topic: str) -> bool:
        """Whether a hook looks on at what is sent and acknowledged on *topic*."""
        return any(hook.wants(topic) for hook in self.watching)

    # --- observing ----------------------------------------------------------------

    def tell(self, chain: Chain, *arguments: Any) -> None:
        """Call all of *chain*; what they return does not matter.

        Where a hook has topics, the first argument is a message.
        """
        # As ``_call`` does for one, in one call for all, and with one look at the clock less
        # for each: a connection tells five.
        seconds = self._broker.seconds
        began = seconds()
        for hook in chain:
            if hook.topics and not hook.wants(arguments[0].topic):
                continue
            try:
                answer = hook.function(*arguments)
                if answer is not None:
                    self._await(hook, answer)
            except Exception:
                self._complain(hook, "failed", Failure())
            ended = seconds()
            if ended - began > SLOW:
                self._complain(hook, f"held up the whole broker for {ended - began:.2f} s")
            began = ended

    def _await(self, hook: Hook, answer: Any) -> None:
        if iscoroutine(answer):
            answer = Deferred.fromCoroutine(answer)
        if isinstance(answer, Deferred):
            answer.addErrback(self._observer_failed, hook)

    def _observer_failed(self, failure: Failure, hook: Hook) -> None:
        self._complain(hook, "failed", failure)

    # --- deciding -----------------------------------------------------------------

    def ask(self, event: str, value: Any, *arguments: Any) -> Any:
        """Ask the chain of *event* about *value*.

        Returns *value*, what stands in its place, ``Refuse`` or (for
        ``message_publish``) ``Divert``; or a Deferred of it, which never fails.
        """
        return self._ask(iter(self._chain(event)), DECIDING[event], value, arguments)

    def _ask(
        self,
        hooks: Iterator[Hook],
        fits: Callable[[Any, Any], bool],
        value: Any,
        arguments: tuple[Any, ...],
    ) -> Any:
        for hook in hooks:
            if hook.topics and not hook.wants(value.topic):
                continue
            answer = self._call(hook, (value, *arguments))
            if isinstance(answer, Deferred):
                waiting = self._bounded(hook, answer)
                return waiting.addCallback(self._answered, hook, hooks, fits, value, arguments)
            value = self._judge(hook, answer, fits, value)
            if isinstance(value, (Refuse, Divert)):
                break
        return value

    def _answered(
        self,
        answer: Any,
        hook: Hook,
        hooks: Iterator[Hook],
        fits: Callable[[Any, Any], bool],
        value: Any,
        arguments: tuple[Any, ...],
    ) -> Any:
        value = self._judge(hook, answer, fits, value)
        if isinstance(value, (Refuse, Divert)):
            return value
        return self._ask(hooks, fits, value, arguments)

    def _judge(self, hook: Hook, answer: Any, fits: Callable[[Any, Any], bool], value: Any) -> Any:
        """What *answer* makes of *value*; nonsense is a refusal."""
        if answer is None:
            return value
        if isinstance(answer, Refuse):
            return answer if _is_reason(answer.reason) else self._nonsense(hook, answer)
        if isinstance(answer, Divert):
            diverts = fits is DECIDING["message_publish"] and fits(value, answer.message)
            return answer if diverts and callable(answer.take) else self._nonsense(hook, answer)
        return answer if fits(value, answer) else self._nonsense(hook, answer)

    def _nonsense(self, hook: Hook, answer: object) -> Failed:
        self._complain(hook, f"returned {answer!r:.200}, which is no answer")
        return FAILED

    def divert(self, divert: Divert, message: Message) -> int:
        """Give *message* to who takes it; a reason code for the publisher."""
        try:
            reason = divert.take(message)
        except Exception:
            log.failure("{take} failed to take a message", take=divert.take)
            self._broker.metrics.errors["hook"] += 1
            return FAILED.reason
        return reason if isinstance(reason, int) and 0 <= reason <= 0xFF else FAILED.reason

    # --- one call -------------------------------------------------------------------

    def _call(self, hook: Hook, arguments: tuple[Any, ...]) -> Any:
        """What the hook returns; a Deferred in place of a coroutine."""
        seconds = self._broker.seconds
        began = seconds()
        try:
            answer = hook.function(*arguments)
            if answer is not None and iscoroutine(answer):
                answer = Deferred.fromCoroutine(answer)
        except Exception:
            self._complain(hook, "failed", Failure())
            return FAILED
        if (took := seconds() - began) > SLOW:
            self._complain(hook, f"held up the whole broker for {took:.2f} s")
        return answer

    def _bounded(self, hook: Hook, answer: Deferred[Any]) -> Deferred[Any]:
        """*answer*, or a refusal when it has failed or does not come in time."""
        # A Deferred of our own: one that is cancelled may refuse to end.
        bounded: Deferred[Any] = Deferred()
        timeout = self._broker.settings.hooks.timeout

        def done(result: Any) -> None:
            timer.cancel()
            if isinstance(result, Failure):
                if bounded.called:
                    return
                self._complain(hook, "failed", result)
                result = FAILED
            if not bounded.called:
                bounded.callback(result)

        def late() -> None:
            self._complain(hook, f"has not answered after {timeout:g} s")
            bounded.callback(FAILED)
            answer.cancel()

        timer = self._broker.wheel.call_later(timeout, late)
        answer.addBoth(done)
        return bounded

    def _complain(self, hook: Hook, what: str, failure: Failure | None = None) -> None:
        """Count, and log unless the same hook was in the log a moment ago."""
        self._broker.metrics.errors["hook"] += 1
        now = self._broker.seconds()
        if now < hook.next_complaint:
            hook.unsaid += 1
            return
        hook.next_complaint = now + COMPLAINT_INTERVAL
        more = f" ({hook.unsaid} complaints more before)" if hook.unsaid else ""
        hook.unsaid = 0
        text = "The hook {name} {what}{more}"
        if failure is None:
            log.error(text, name=hook.name, what=what, more=more)
        else:
            log.failure(text, failure, name=hook.name, what=what, more=more)


_REASONS = frozenset(int(reason) for reason in ReasonCode if reason >= 0x80)


def _is_reason(reason: object) -> bool:
    return isinstance(reason, int) and reason in _REASONS
