"""``mqttctl pub`` and ``mqttctl sub``: a quick look, by the control API.

Messages go through the broker as its own, so that no password is needed where the
control socket is open.
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from typing import Any

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.output import clean
from mqttd.ctl.parser import Subparsers, command


def add_to(subparsers: Subparsers) -> None:
    publishing = command(subparsers, "pub", publish, "publish a message")
    publishing.add_argument("topic")
    publishing.add_argument("payload", nargs="?", help="text; standard input without it")
    publishing.add_argument("--qos", type=int, choices=(0, 1, 2), default=0)
    publishing.add_argument("--retain", action="store_true")
    listening = command(subparsers, "sub", subscribe, "listen to messages until ^C")
    listening.add_argument("topic_filter")
    listening.add_argument("--qos", type=int, choices=(0, 1, 2), default=2)
    listening.add_argument("--count", type=int, metavar="N", help="end after so many messages")


def publish(context: Context) -> None:
    given = context.arguments
    if given.payload is None:
        payload = sys.stdin.buffer.read()
    else:
        payload = given.payload.encode("utf-8", "surrogateescape")
    body = {
        "topic": given.topic,
        "payload_base64": b64encode(payload).decode(),
        "qos": given.qos,
        "retain": given.retain,
    }
    result = context.api.post("publish", body=body)
    if context.out.as_json:
        context.out.value(result)
    elif not result["matched"]:
        context.out.line("published; nobody subscribes to it")


def subscribe(context: Context) -> None:
    given = context.arguments
    query = {"topic_filter": given.topic_filter, "qos": given.qos}
    seen = 0
    for event, data in context.api.events("messages", **query):
        if event == "refused":
            raise Failed(data["reason"])
        if event == "missed":
            context.out.line(f"({data['events']} messages were missed)")
        if event != "message":
            continue
        if context.out.as_json:
            context.out.record(data)
        else:
            context.out.line(f"{data['topic']}  {_payload(data)}")
        seen += 1
        if seen == given.count:
            return


def _payload(message: dict[str, Any]) -> str:
    if "payload" in message:
        return clean(message["payload"])
    data = b64decode(message["payload_base64"])
    return f"({len(data)} bytes) {data[:32].hex(' ')}{' ...' if len(data) > 32 else ''}"
