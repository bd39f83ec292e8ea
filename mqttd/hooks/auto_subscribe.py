"""Auto-subscribe: clients get subscriptions that they did not ask for.

At each connection the client is subscribed to the filters in the settings, where
``%c`` stands for its client id and ``%u`` for its user name, by its own rights: what
it may not subscribe to, it does not get. A name with ``/``, ``+`` or ``#`` in it is put
into no filter, since it would widen it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.logger import Logger

from mqttd.fields import SettingError, checked, count, flag, parts
from mqttd.wire.codes import RetainHandling
from mqttd.wire.packets import SubscriptionRequest
from mqttd.wire.topics import check_topic_filter

if TYPE_CHECKING:
    from mqttd.interfaces import IClient

log = Logger()

_PLACE_HOLDER = re.compile("%[cu]")


def _is_filter(value: Any) -> bool:
    return isinstance(value, str) and check_topic_filter(value, 65_535, 65_535) is None


@frozen
class AutoSubscription:
    """One filter."""

    #: What is subscribed to; "%c" stands for the client id, "%u" for the user name.
    filter: str = checked("#", "a topic filter", _is_filter)
    #: The most that it is delivered with.
    qos: int = count(0, 0, 2)
    #: Not what the client has published itself.
    no_local: bool = flag(False)

    def __attrs_post_init__(self) -> None:
        if self.no_local and self.filter.startswith(("$share/", "$queue/")):
            raise SettingError("no_local", True, "false for a shared subscription")


@frozen
class AutoSubscribeSettings:
    """What every client gets."""

    subscriptions: tuple[AutoSubscription, ...] = parts(
        AutoSubscription, "a list of subscriptions with filter and qos"
    )


class AutoSubscribe:
    """Subscribes each client to filters that it did not ask for."""

    Settings = AutoSubscribeSettings

    def __init__(self, settings: AutoSubscribeSettings) -> None:
        self._settings = settings

    def connected(self, client: IClient) -> None:
        requests = [
            SubscriptionRequest(
                topic_filter,
                wanted.qos,
                wanted.no_local,
                retain_handling=RetainHandling.SEND_IF_NEW,
            )
            for wanted in self._settings.subscriptions
            if (topic_filter := filled(wanted.filter, client)) is not None
        ]
        if requests:
            client.add_subscriptions(requests).addErrback(_failed)


def _failed(failure: Any) -> None:
    log.failure("Auto-subscribe failed", failure)


def filled(pattern: str, client: IClient) -> str | None:
    """*pattern* with the client's names put in; None where one is unfit or absent."""
    names = {"%c": client.client_id, "%u": client.user_name or ""}
    for holder in _PLACE_HOLDER.findall(pattern):
        name = names[holder]
        if not name or any(character in name for character in "/+#"):
            return None
    topic_filter = _PLACE_HOLDER.sub(lambda found: names[found[0]], pattern)
    # A name may not turn the filter into one of $-topics either.
    return None if topic_filter.startswith("$") and not pattern.startswith("$") else topic_filter
