"""``mqttctl subscriptions`` and ``mqttctl routes``: where messages go."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = ("client_id", "topic_filter", "qos", "no_local", "retain_as_published", "identifier")


def add_to(subparsers: Subparsers) -> None:
    subscriptions = group(subparsers, "subscriptions", "who subscribes to what")
    listing = command(subscriptions, "list", show_all, "list subscriptions")
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--client", metavar="CLIENT_ID", help="of this client only")
    which.add_argument("--topic", help="those that get messages on this topic only")
    which.add_argument("--filter", help="to this filter only")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many")
    adding = command(subscriptions, "add", add, "subscribe a client that is connected")
    adding.add_argument("client_id")
    adding.add_argument("topic_filter")
    adding.add_argument("--qos", type=int, choices=(0, 1, 2), default=0)
    removing = command(subscriptions, "remove", remove, "end a client's subscription")
    removing.add_argument("client_id")
    removing.add_argument("topic_filter")
    routes = command(subparsers, "routes", show_routes, "distinct filters that are subscribed to")
    routes.add_argument("--topic", help="filters that match this topic only")
    routes.add_argument("--prefix", help="filters that begin with this only")
    routes.add_argument("--limit", type=int, metavar="N", help="at most so many")


def show_all(context: Context) -> None:
    given = context.arguments
    if given.client is not None:
        found = context.api.get("sessions", given.client, "subscriptions")["items"]
        context.out.table(found[: given.limit], COLUMNS)
        return
    found = context.api.items(
        "subscriptions", most=given.limit, topic=given.topic, topic_filter=given.filter
    )
    context.out.table(found, COLUMNS)


def add(context: Context) -> None:
    given = context.arguments
    body = {"topic_filter": given.topic_filter, "qos": given.qos}
    context.out.value(context.api.post("sessions", given.client_id, "subscriptions", body=body))


def remove(context: Context) -> None:
    given = context.arguments
    path = ("sessions", given.client_id, "subscriptions")
    context.api.delete(*path, topic_filter=given.topic_filter)
    context.out.line(f"{given.client_id} is not subscribed to {given.topic_filter} any more")


def show_routes(context: Context) -> None:
    given = context.arguments
    routes = context.api.items("routes", most=given.limit, topic=given.topic, prefix=given.prefix)
    context.out.table(routes, ("topic_filter", "subscribers", "groups"))
