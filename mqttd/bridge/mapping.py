"""Topics here and there: what a ``BridgeTopic`` makes of names and filters.

``Bridge`` asks here; nothing but text is known.
"""

from __future__ import annotations

from mqttd.settings_bridge import BridgeTopic, Direction
from mqttd.wire.topics import check_topic_filter, check_topic_name, matches


class Mapping:
    """One topic of a bridge."""

    def __init__(self, settings: BridgeTopic) -> None:
        """Raises ``ValueError`` when no topic can be meant."""
        self.settings = settings
        self.local_filter = settings.local_prefix + settings.filter
        self.remote_filter = settings.remote_prefix + settings.filter
        self.goes_out = settings.direction is not Direction.IN
        self.comes_in = settings.direction is not Direction.OUT
        for topic_filter in (self.local_filter, self.remote_filter):
            if check_topic_filter(topic_filter, 65_536, 65_535) is not None:
                raise ValueError(f"{topic_filter!r} is not a Topic Filter")
        for prefix in (settings.local_prefix, settings.remote_prefix):
            if set(prefix) & set("+#"):
                raise ValueError(f"the prefix {prefix!r} has a wildcard")

    def to_remote(self, topic: str) -> str | None:
        """The name there of *topic*; None: it does not go out by this."""
        settings = self.settings
        return _mapped(topic, self.local_filter, settings.local_prefix, settings.remote_prefix)

    def to_local(self, topic: str) -> str | None:
        """The name here of *topic*; None: it does not come in by this."""
        settings = self.settings
        return _mapped(topic, self.remote_filter, settings.remote_prefix, settings.local_prefix)


def _mapped(topic: str, topic_filter: str, prefix: str, other: str) -> str | None:
    if not matches(topic_filter, topic) or not topic.startswith(prefix):
        return None
    name = other + topic[len(prefix) :]
    return name if check_topic_name(name, 65_536, 65_535) is None else None
