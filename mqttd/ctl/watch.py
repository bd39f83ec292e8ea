"""``mqttctl stats``, ``process``, ``alarms``, ``slow``, ``events`` and ``top``."""

from __future__ import annotations

from typing import Any

from mqttd.ctl.context import Context
from mqttd.ctl.output import moment, shown
from mqttd.ctl.parser import Subparsers, command, group

#: Clears the screen and goes to its corner, on every terminal of today.
HOME = "\x1b[H\x1b[2J"


def add_to(subparsers: Subparsers) -> None:
    command(subparsers, "stats", stats, "what there is and what has happened")
    command(subparsers, "process", process, "memory, processor time and files of the process")
    alarms = group(subparsers, "alarms", "what is wrong")
    listing = command(alarms, "list", show_alarms, "list active alarms")
    listing.add_argument("--history", action="store_true", help="those that are over")
    clearing = command(alarms, "clear", clear_alarm, "clear an alarm")
    clearing.add_argument("id")
    lagging = command(subparsers, "slow", slow, "clients that do not keep up, the worst first")
    lagging.add_argument("--limit", type=int, default=100, metavar="N")
    watching = command(subparsers, "events", events, "clients that come and go, until ^C")
    watching.add_argument("--count", type=int, metavar="N", help="end after so many events")
    live = command(subparsers, "top", top, "figures, live, until ^C")
    live.add_argument("--every", type=int, default=2, metavar="SECONDS")
    live.add_argument("--count", type=int, metavar="N", help="end after so many looks")


def stats(context: Context) -> None:
    found = context.api.get("stats")
    if context.out.as_json:
        context.out.value(found)
        return
    for name in ("gauges", "counters", "per_minute"):
        context.out.line(f"[{name}]")
        context.out.value(found[name])
        context.out.line("")


def process(context: Context) -> None:
    context.out.value(context.api.get("process"))


def show_alarms(context: Context) -> None:
    history = context.arguments.history
    found = context.api.get("alarms", history=history)["items"]
    if not context.out.as_json:
        found = [{**alarm, "since": moment(alarm["since"])} for alarm in found]
    context.out.table(found, ("id", "severity", "since", "title", "summary"))


def clear_alarm(context: Context) -> None:
    context.api.delete("alarms", context.arguments.id)
    context.out.line(f"the alarm {context.arguments.id} is cleared")


def slow(context: Context) -> None:
    found = context.api.get("slow-subscribers", limit=context.arguments.limit)["items"]
    columns = ("client_id", "unacknowledged_for", "inflight", "queued", "blocked", "dropped")
    context.out.table(found, columns)


def events(context: Context) -> None:
    for number, (event, data) in enumerate(context.api.events("events"), 1):
        if context.out.as_json:
            context.out.record({"event": event, **data})
        else:
            context.out.line(f"{event}  {shown(data)}")
        if number == context.arguments.count:
            return


def top(context: Context) -> None:
    before: dict[str, Any] | None = None
    looks = 0
    for event, data in context.api.events("events", stats_every=context.arguments.every):
        if event != "stats":
            continue
        if context.out.as_json:
            context.out.record(data)
        else:
            context.out.stream.write(HOME + _screen(data, before) + "\n")
            context.out.stream.flush()
        before = data
        looks += 1
        if looks == context.arguments.count:
            return


def _screen(now: dict[str, Any], before: dict[str, Any] | None) -> str:
    gauges, counters = now["gauges"], now["counters"]
    elapsed = now["uptime"] - before["uptime"] if before else 0.0

    def rate(name: str) -> str:
        if not before or elapsed <= 0:
            return "-"
        difference = _sum(counters[name]) - _sum(before["counters"][name])
        return f"{difference / elapsed:,.1f}/s"

    lines = [
        f"mqttd, up {now['uptime']:,.0f} s",
        "",
        f"clients        {gauges['clients']['count']:>12,}",
        f"sessions away  {gauges['offline_sessions']:>12,}",
        f"subscriptions  {gauges['subscriptions']['count']:>12,}",
        f"retained       {gauges['retained']['count']:>12,}",
        f"queued         {gauges['queued_messages']:>12,}",
        f"inflight       {gauges['inflight']:>12,}",
        f"slow clients   {gauges['blocked_connections']:>12,}",
        "",
        f"messages in    {rate('messages_received'):>16}   out {rate('messages_sent'):>16}",
        f"bytes in       {rate('bytes_received'):>16}   out {rate('bytes_sent'):>16}",
        f"connections    {rate('connections_accepted'):>16}",
    ]
    dropped = counters["dropped"]
    lines += ["", "dropped: " + (shown(dropped) if dropped else "nothing")]
    return "\n".join(lines)


def _sum(value: Any) -> int:
    return sum(value) if isinstance(value, (list, tuple)) else int(value)
