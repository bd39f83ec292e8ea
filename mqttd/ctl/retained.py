"""``mqttctl retained``: retained messages."""

from __future__ import annotations

from base64 import b64decode

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = ("topic", "size", "qos", "publisher", "expires_in")


def add_to(subparsers: Subparsers) -> None:
    retained = group(subparsers, "retained", "retained messages")
    listing = command(retained, "list", show_all, "list retained messages, without payloads")
    listing.add_argument("topic_filter", nargs="?", help="topics that match this only")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many")
    showing = command(retained, "show", show, "show one retained message")
    showing.add_argument("topic")
    showing.add_argument("--raw", action="store_true", help="write the payload's bytes only")
    deleting = command(retained, "delete", delete, "delete one, or those that a filter matches")
    deleting.add_argument("topic", help="a topic; with --all a filter")
    deleting.add_argument("--all", action="store_true", help="all that match; # stands for all")


def show_all(context: Context) -> None:
    given = context.arguments
    found = context.api.items("retained", most=given.limit, topic_filter=given.topic_filter)
    context.out.table(found, COLUMNS)


def show(context: Context) -> None:
    message = context.api.get("retained", context.arguments.topic)
    if context.arguments.raw:
        context.out.bytes(b64decode(message["payload_base64"]))
    else:
        context.out.value(message)


def delete(context: Context) -> None:
    given = context.arguments
    if given.all:
        done = context.api.delete("retained", topic_filter=given.topic)
        context.out.line(f"{done['deleted']} deleted")
        return
    if "+" in given.topic or "#" in given.topic:
        raise Failed(f"{given.topic} is a filter: --all deletes what it matches")
    context.api.delete("retained", given.topic)
    context.out.line(f"the retained message on {given.topic} is gone")
