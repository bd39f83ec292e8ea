"""A plugin: each user may publish so many messages in an hour, and no more.

``mqttd.toml`` beside it shows how it is named in the configuration. Try it with
``PYTHONPATH=. twistd -n mqttd --config mqttd.toml``.
"""

from attrs import frozen

from mqttd.fields import count, seconds, texts
from mqttd.interfaces import Refuse

QUOTA_EXCEEDED = 0x97


@frozen
class QuotaSettings:
    #: Messages of one user in one period.
    messages: int = count(1000, 1)
    #: Seconds.
    period: float = seconds(3600.0, 1)
    #: Users without a quota.
    unlimited: tuple[str, ...] = texts((), "a list of user names", bool)


class Quota:
    Settings = QuotaSettings

    def __init__(self, settings: QuotaSettings) -> None:
        self.settings = settings
        self.used: dict[str, int] = {}

    def start(self, broker) -> None:
        self.broker = broker
        self.ends = broker.seconds() + self.settings.period

    def message_publish(self, message, client):
        if client is None:  # a will
            return None
        user = client.principal or client.client_id
        if user in self.settings.unlimited:
            return None
        if self.broker.seconds() >= self.ends:
            self.used.clear()
            self.ends = self.broker.seconds() + self.settings.period
        self.used[user] = self.used.get(user, 0) + 1
        if self.used[user] > self.settings.messages:
            return Refuse(QUOTA_EXCEEDED, "no more messages in this hour")
        return None
