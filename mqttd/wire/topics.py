"""Topic Names and Topic Filters: what is valid, what is shared, what matches.

The broker asks here before it stores a subscription or routes a message that
did not come through the parser. Bad filters are answered filter by filter in
SUBACK, so the checks return a reason code rather than raise (MQTT 5.0 sections
4.7 and 4.8.2).

Matching compares character by character: nothing is normalized, case counts,
and an empty level is a level.
"""

from __future__ import annotations

from typing import Final

from mqttd.wire.codes import ReasonCode
from mqttd.wire.errors import ProtocolViolation

#: The group of ``$queue/<filter>``, the other way to write a shared subscription.
QUEUE_GROUP: Final = "$queue"

_SHARE: Final = "$share/"
_QUEUE: Final = "$queue/"


def check_topic_name(topic: str, maximum_levels: int, maximum_length: int) -> ReasonCode | None:
    """``TOPIC_NAME_INVALID`` when *topic* is no Topic Name, or exceeds a cap.

    *maximum_length* is in bytes of UTF-8, *maximum_levels* counts the parts
    between slashes.
    """
    # [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT311-3.3.2-2] [MQTT311-4.7.1-1]
    if "+" in topic or "#" in topic or not _is_topic(topic, maximum_levels, maximum_length):
        return ReasonCode.TOPIC_NAME_INVALID
    return None


def check_topic_filter(
    topic_filter: str, maximum_levels: int, maximum_length: int
) -> ReasonCode | None:
    """``TOPIC_FILTER_INVALID`` when *topic_filter* is not valid, or exceeds a cap.

    Knows shared subscriptions: *maximum_levels* holds for the filter inside,
    *maximum_length* (bytes of UTF-8) for the whole. ``split_shared`` does not
    raise for a filter that passed.
    """
    if not _has_length(topic_filter, maximum_length):
        return ReasonCode.TOPIC_FILTER_INVALID
    try:
        _, inner = split_shared(topic_filter)
    except ProtocolViolation as violation:
        return violation.reason
    if not _is_topic(inner, maximum_levels, maximum_length) or not _wildcards_fit(inner):
        return ReasonCode.TOPIC_FILTER_INVALID
    return None


def split_shared(topic_filter: str) -> tuple[str | None, str]:
    """(group, filter inside) of a shared subscription; (``None``, filter) of others.

    ``$queue/x`` and ``$share/$queue/x`` are the same group. Raises
    ``ProtocolViolation`` (0x8F) for what begins like a shared subscription and
    is none.
    """
    if topic_filter.startswith(_QUEUE):
        group, inner = QUEUE_GROUP, topic_filter[len(_QUEUE) :]
    elif topic_filter.startswith(_SHARE):
        # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        group, _, inner = topic_filter[len(_SHARE) :].partition("/")
        if not group or "+" in group or "#" in group:
            raise _bad_share(topic_filter)
    else:
        return None, topic_filter
    # A shared subscription inside another would hide the real filter from
    # whoever checks the inner one.
    if not inner or inner.startswith((_SHARE, _QUEUE)):
        raise _bad_share(topic_filter)
    return group, inner


def matches(topic_filter: str, topic: str) -> bool:
    """Whether *topic* matches *topic_filter*, both valid (section 4.7).

    Linear in their length. *topic_filter* is the inner one of a shared
    subscription.
    """
    if topic_filter == topic:
        return True
    # [MQTT-4.7.2-1] [MQTT311-4.7.2-1]
    if topic[:1] == "$" and topic_filter[:1] in ("+", "#"):
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":  # the parent level itself included
            return True
        # [MQTT-4.7.3-4] [MQTT311-4.7.3-4]
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def _is_topic(topic: str, maximum_levels: int, maximum_length: int) -> bool:
    """What names and filters have in common."""
    # [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT311-4.7.3-1] [MQTT311-4.7.3-2]
    return (
        _has_length(topic, maximum_length)
        and "\0" not in topic
        and topic.count("/") < maximum_levels
    )


def _has_length(topic: str, maximum: int) -> bool:
    """Whether *topic* has 1 to *maximum* bytes, and never more than 65,535."""
    maximum = min(maximum, 65_535)  # [MQTT-4.7.3-3] [MQTT311-4.7.3-3]
    if not 0 < len(topic) <= maximum:
        return False
    return topic.isascii() or len(topic.encode("utf-8", "surrogatepass")) <= maximum


def _wildcards_fit(topic_filter: str) -> bool:
    """Whether every wildcard is a level of its own, and ``#`` the last one."""
    if "#" not in topic_filter and "+" not in topic_filter:
        return True
    levels = topic_filter.split("/")
    last = levels.pop()
    # [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3]
    if last not in ("#", "+") and ("#" in last or "+" in last):
        return False
    return not any("#" in level or ("+" in level and level != "+") for level in levels)


def _bad_share(topic_filter: str) -> ProtocolViolation:
    return ProtocolViolation(
        ReasonCode.TOPIC_FILTER_INVALID,
        f"{topic_filter[:80]!r} is no valid shared subscription",
    )
