"""``mqttctl clients``: who is connected, and ending connections."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = (
    "client_id",
    "user",
    "address",
    "listener",
    "version",
    "connected_for",
    "subscriptions",
    "inflight",
    "queued",
    "dropped",
)


def add_to(subparsers: Subparsers) -> None:
    clients = group(subparsers, "clients", "the clients that are connected")
    listing = command(clients, "list", show_all, "list connected clients")
    listing.add_argument("--prefix", help="client ids that begin with this only")
    listing.add_argument("--user", help="clients of this user only")
    listing.add_argument("--address", help="clients at this address only")
    listing.add_argument("--listener", help="clients of this listener only")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many")
    showing = command(clients, "show", show, "show one client")
    showing.add_argument("client_id")
    kicking = command(clients, "kick", kick, "end a client's connection")
    kicking.add_argument("client_id")


def show_all(context: Context) -> None:
    given = context.arguments
    clients = context.api.items(
        "clients",
        most=given.limit,
        prefix=given.prefix,
        user=given.user,
        address=given.address,
        listener=given.listener,
    )
    context.out.table(clients, COLUMNS)


def show(context: Context) -> None:
    context.out.value(context.api.get("clients", context.arguments.client_id))


def kick(context: Context) -> None:
    context.api.delete("clients", context.arguments.client_id)
    context.out.line(f"{context.arguments.client_id} was disconnected")
