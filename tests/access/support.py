"""Questions for access rules, written short."""

from __future__ import annotations

from typing import Any

from mqttd.interfaces import PUBLISH, AccessRequest, Avatar, Peer


def ask(topic: str, action: str = PUBLISH, **fields: Any) -> AccessRequest:
    """May user alice, with client id c1, do *action* on *topic*?

    *fields*: ``user``, ``client_id``, ``claims``, ``superuser``, ``address``,
    ``certificate``, ``listener``, ``qos``, ``retain``.
    """
    return AccessRequest(
        Avatar(
            fields.get("user", "alice"),
            superuser=fields.get("superuser", False),
            claims=fields.get("claims", {}),
        ),
        fields.get("client_id", "c1"),
        Peer(fields.get("address", "192.0.2.1"), certificate=fields.get("certificate")),
        fields.get("listener", "tcp"),
        action,
        topic,
        fields.get("qos", 0),
        fields.get("retain", False),
    )
