"""Topic rewrite: what clients name one way, the broker has another way.

A rule has a topic filter and the topic to write: ``$1``, ``$2`` ... stand for what the
wildcards have matched, ``#`` included. With a pattern, a regular expression, they
stand for its groups. The first rule that fits decides, and access rules see what has
been written.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import evolve, frozen

from mqttd.broker.message import Message
from mqttd.fields import SettingError, checked, parts, text, texts
from mqttd.wire.packets import SubscriptionRequest
from mqttd.wire.topics import check_topic_filter, matches, split_shared

PUBLISH, SUBSCRIBE = "publish", "subscribe"

_REFERENCE = re.compile(r"\$(\d+)")


def is_filter(value: Any) -> bool:
    """Whether *value* is a topic filter, and not of a shared subscription."""
    return (
        isinstance(value, str)
        and check_topic_filter(value, 65_535, 65_535) is None
        and split_shared(value)[0] is None
    )


@frozen
class Rule:
    """One rule."""

    #: Topics, and filters of subscriptions, that the rule is for.
    filter: str = checked("#", "a topic filter", is_filter)
    #: What is written in their place.
    topic: str = text()
    #: A regular expression for the whole topic; "" takes the wildcards of ``filter``.
    pattern: str = text()
    #: Whether it holds for what is published, or subscribed to.
    on: tuple[str, ...] = texts(
        (PUBLISH, SUBSCRIBE),
        'a list of "publish" and "subscribe"',
        lambda word: word in (PUBLISH, SUBSCRIBE),
    )

    def __attrs_post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern or _pattern(self.filter)).groups
        except re.error as error:
            raise SettingError("pattern", self.pattern, f"a regular expression; {error}") from None
        if not self.topic:
            raise SettingError("topic", "", "the topic to write")
        numbers = [int(number) for number in _REFERENCE.findall(self.topic)]
        if any(not 1 <= number <= groups for number in numbers):
            allowed = f"a topic with $1 to ${groups}" if groups else "a topic without $1"
            raise SettingError("topic", self.topic, allowed)


def _pattern(topic_filter: str) -> str:
    """A regular expression with a group for each wildcard of *topic_filter*.

    It is linear in the length of a topic.
    """
    levels = {"+": "([^/]*)", "#": "(.*)"}
    return "/".join(levels.get(level, re.escape(level)) for level in topic_filter.split("/"))


@frozen
class RewriteSettings:
    """The rules, the first that fits counts."""

    rules: tuple[Rule, ...] = parts(Rule, "a list of rules with filter and topic")


def _fill(topic: str, found: re.Match[str]) -> str:
    return _REFERENCE.sub(lambda number: found[int(number[1])] or "", topic)


class TopicRewrite:
    """Writes topics and filters anew, by rules."""

    Settings = RewriteSettings

    def __init__(self, settings: RewriteSettings) -> None:
        self._rules = [
            (rule, re.compile(rule.pattern or _pattern(rule.filter), re.DOTALL))
            for rule in settings.rules
        ]
        #: For other topics the fast lane stays open.
        self.topics = tuple(rule.filter for rule in settings.rules if PUBLISH in rule.on)
        if not self.topics:
            self.message_publish = None  # type: ignore[assignment]

    def _rewritten(self, topic: str, action: str) -> str | None:
        for rule, pattern in self._rules:
            if action in rule.on and matches(rule.filter, topic):
                found = pattern.fullmatch(topic)
                if found is not None:
                    return _fill(rule.topic, found)
        return None

    def message_publish(self, message: Message, client: object) -> Message | None:
        topic = self._rewritten(message.topic, PUBLISH)
        return None if topic is None else message.changed(topic=topic)

    def subscribe(
        self, requests: list[SubscriptionRequest], client: object
    ) -> list[SubscriptionRequest]:
        return [
            evolve(request, topic_filter=self._filter(request.topic_filter)) for request in requests
        ]

    def unsubscribe(self, topic_filters: list[str], client: object) -> list[str]:
        return [self._filter(topic_filter) for topic_filter in topic_filters]

    def _filter(self, topic_filter: str) -> str:
        """*topic_filter* rewritten, inside ``$share/<group>/`` if it is shared."""
        _, inner = split_shared(topic_filter)
        written = self._rewritten(inner, SUBSCRIBE)
        if written is None:
            return topic_filter
        return topic_filter[: len(topic_filter) - len(inner)] + written
