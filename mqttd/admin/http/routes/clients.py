"""The clients that are connected: look at them, and end their connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import page, page_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import PAGING, Parameter, Role, Route
from mqttd.config import ConfigError
from mqttd.config.change import change_part, show_part
from mqttd.settings import ConnectionLimits
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection

CLIENT = {
    "type": "object",
    "required": ["client_id", "user", "address", "listener"],
    "properties": {
        "client_id": {"type": "string", "description": "The client id."},
        "user": {"type": ["string", "null"], "description": "The user's name; null: it gave none."},
        "address": {"type": "string", "description": "Where the client comes from."},
        "port": {"type": "integer", "description": "Its port there."},
        "tls": {"type": "boolean", "description": "It came by TLS."},
        "listener": {"type": "string", "description": "Name of its listener, or the endpoint."},
        "version": {"enum": [3, 4, 5], "description": "Protocol level."},
        "bridge": {"type": "boolean", "description": "It says to be a bridge."},
        "keep_alive": {"type": "integer", "description": "Seconds; 0: none."},
        "connected_for": {"type": "number", "description": "Seconds."},
        "mount_point": {
            "type": "string",
            "description": "What stands before its topics in the broker.",
        },
        "session_expiry": {
            "type": ["integer", "null"],
            "description": "Seconds that the session outlives the connection; null: for ever.",
        },
        "subscriptions": {"type": "integer", "description": "How many it has."},
        "inflight": {"type": "integer", "description": "Messages sent and not acknowledged."},
        "queued": {"type": "integer", "description": "Messages that wait."},
        "dropped": {"type": "integer", "description": "Messages that it did not get."},
        "writable": {
            "type": "boolean",
            "description": "False while the client does not take what it is sent.",
        },
    },
}

#: What ``[limits]`` calls the rates of one connection.
RATES = ("inbound_bytes", "inbound_messages", "outbound_bytes", "outbound_messages")

LIMITS = {
    "type": "object",
    "properties": {
        name: {"type": "string", "description": 'Such as "100/s burst 500", or "unlimited".'}
        for name in RATES
    },
}

FILTERS = (
    Parameter(
        "prefix", {"type": "string", "maxLength": 4096}, "Client ids that begin with this only."
    ),
    Parameter("user", {"type": "string", "maxLength": 4096}, "Clients of this user only."),
    Parameter("address", {"type": "string", "maxLength": 64}, "Clients at this address only."),
    Parameter("listener", {"type": "string", "maxLength": 1024}, "Clients of this listener only."),
)


async def show_all(call: Call) -> dict[str, Any]:
    connections = call.daemon.broker.connections
    return await page(
        call,
        connections,
        lambda name: _shown(connections[name], call) if name in connections else None,
        _filter(call),
    )


def show(call: Call) -> dict[str, Any]:
    return _shown(find(call), call)


def kick(call: Call) -> None:
    find(call).disconnect(
        ReasonCode.ADMINISTRATIVE_ACTION, "ended by an administrator", "administrative-action"
    )


def change_limits(call: Call) -> dict[str, Any]:
    connection = find(call)
    transport: Any = connection.transport
    if not hasattr(transport, "change_inbound_rates"):
        raise Problem(409, "This client is inside the process: it has no rates.")
    try:
        limits = change_part(_limits(transport), call.body, ("limits",))
    except ConfigError as error:
        raise Problem(422, "The limits stay as they were.", errors=error.lines()) from None
    transport.change_inbound_rates(limits.inbound_bytes, limits.inbound_messages)
    transport.change_outbound_rates(limits.outbound_bytes, limits.outbound_messages)
    return show_limits(call)


def show_limits(call: Call) -> dict[str, Any]:
    limits = show_part(_limits(find(call).transport))
    return {name: limits[name] for name in RATES}


def _limits(transport: Any) -> ConnectionLimits:
    """The rates of a connection, as its listener would have them."""
    inbound = getattr(transport, "inbound_rates", (None, None))
    outbound = getattr(transport, "outbound_rates", (None, None))
    return ConnectionLimits(**dict(zip(RATES, (*inbound, *outbound), strict=True)))


def find(call: Call) -> Connection:
    """The connection that the path names.

    :raise Problem: 404.
    """
    name = call.path["client_id"]
    connection: Connection | None = call.daemon.broker.connections.get(name)
    if connection is None:
        raise not_found("connected client", name)
    return connection


def _filter(call: Call) -> Any:
    wanted = {name: call.query[name] for name in ("user", "address", "listener")}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    prefix = call.query["prefix"] or ""
    connections = call.daemon.broker.connections

    def fits(name: str) -> bool:
        connection = connections.get(name)
        if connection is None or not name.startswith(prefix):
            return False
        facts = _place(connection)
        return all(facts[key] == value for key, value in wanted.items())

    return fits if wanted or prefix else None


def _place(connection: Connection) -> dict[str, Any]:
    transport = connection.transport
    return {
        "user": connection.user_name,
        "address": transport.peer.address,
        "listener": transport.listener.name or transport.listener.endpoint,
    }


def _shown(connection: Connection, call: Call) -> dict[str, Any]:
    session, peer = connection.session, connection.transport.peer
    return {
        "client_id": connection.client_id,
        **_place(connection),
        "port": peer.port,
        "tls": peer.tls,
        "version": connection.version,
        "bridge": connection.is_bridge,
        "keep_alive": connection.keep_alive,
        "connected_for": round(call.daemon.broker.seconds() - connection.connected_at, 3),
        "mount_point": connection.mount_point,
        "session_expiry": session.expiry,
        "subscriptions": len(session.subscriptions),
        "inflight": len(session.inflight),
        "queued": session.queued,
        "dropped": session.dropped,
        "writable": connection.writable,
    }


ROUTES = (
    Route(
        "GET",
        "/clients",
        Role.VIEWER,
        show_all,
        "Connected clients, by client id",
        "clients",
        query=PAGING + FILTERS,
        example={"prefix": "sensor-"},
        answer=page_of(CLIENT),
    ),
    Route(
        "GET",
        "/clients/{client_id}",
        Role.VIEWER,
        show,
        "One connected client",
        "clients",
        example={"client_id": "sensor-12"},
        answer=CLIENT,
    ),
    Route(
        "GET",
        "/clients/{client_id}/limits",
        Role.VIEWER,
        show_limits,
        "The rates of one client's connection",
        "clients",
        example={"client_id": "sensor-12"},
        answer=LIMITS,
    ),
    Route(
        "PATCH",
        "/clients/{client_id}/limits",
        Role.OPERATOR,
        change_limits,
        "Change them for as long as it is connected",
        "clients",
        body={**LIMITS, "additionalProperties": False, "minProperties": 1},
        example={"client_id": "sensor-12", "body": {"inbound_messages": "10/s burst 100"}},
        answer=LIMITS,
        problems=(409,),
    ),
    Route(
        "DELETE",
        "/clients/{client_id}",
        Role.OPERATOR,
        kick,
        "End a client's connection; its session stays as it asked",
        "clients",
        example={"client_id": "sensor-13"},
    ),
)
