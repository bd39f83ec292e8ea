"""``mqttctl clients``: who is connected, and ending connections."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.listeners import parse_pairs
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
    limiting = command(clients, "limit", limit, "show or change the rates of one connection")
    limiting.add_argument("client_id")
    limiting.add_argument("limit", nargs="*", metavar="KEY=VALUE", help="inbound_messages=10/s")
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


def limit(context: Context) -> None:
    given = context.arguments
    path = ("clients", given.client_id, "limits")
    if given.limit:
        context.out.value(context.api.patch(*path, body=dict(parse_pairs(given.limit))))
    else:
        context.out.value(context.api.get(*path))


def kick(context: Context) -> None:
    context.api.delete("clients", context.arguments.client_id)
    context.out.line(f"{context.arguments.client_id} was disconnected")
