"""``mqttctl sessions``: what is kept for clients, and their subscriptions."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = (
    "client_id",
    "user",
    "online",
    "expiry",
    "subscriptions",
    "inflight",
    "queued",
    "queued_bytes",
    "dropped",
)


def add_to(subparsers: Subparsers) -> None:
    sessions = group(subparsers, "sessions", "sessions, of clients here and away")
    listing = command(sessions, "list", show_all, "list sessions")
    listing.add_argument("--prefix", help="client ids that begin with this only")
    where = listing.add_mutually_exclusive_group()
    where.add_argument("--online", action="store_true", help="of clients that are here only")
    where.add_argument("--offline", action="store_true", help="of clients that are away only")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many")
    showing = command(sessions, "show", show, "show one session")
    showing.add_argument("client_id")
    ending = command(sessions, "end", end, "end a session and all that hangs on it")
    ending.add_argument("client_id")


def show_all(context: Context) -> None:
    given = context.arguments
    online = True if given.online else False if given.offline else None
    sessions = context.api.items("sessions", most=given.limit, prefix=given.prefix, online=online)
    context.out.table(sessions, COLUMNS)


def show(context: Context) -> None:
    context.out.value(context.api.get("sessions", context.arguments.client_id))


def end(context: Context) -> None:
    context.api.delete("sessions", context.arguments.client_id)
    context.out.line(f"the session of {context.arguments.client_id} is gone")
