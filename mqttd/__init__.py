"""mqttd: an MQTT broker on Twisted.

The public names for a program that embeds the broker. They are imported when
first asked for, so that ``mqttd.wire`` alone costs no Twisted import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqttd.config import load_settings
    from mqttd.service import MQTTBroker
    from mqttd.settings import BrokerSettings, ListenerSettings

    #: Whether the hot path was compiled when this was built (MQTTD_COMPILE=1).
    __compiled__: bool

#: The version of the distribution, and the only place that says it.
__version__ = "0.1.0.dev0"

__all__ = ["BrokerSettings", "ListenerSettings", "MQTTBroker", "__version__", "load_settings"]

_HOMES = {
    "BrokerSettings": "mqttd.settings",
    "ListenerSettings": "mqttd.settings",
    "MQTTBroker": "mqttd.service",
    "load_settings": "mqttd.config",
}


def __getattr__(name: str) -> Any:
    if name == "__compiled__":
        return not str(import_module("mqttd.wire.parser").__file__).endswith(".py")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
