"""``mqttctl explain`` and ``mqttctl acl``: who may do what, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqttd.access.mosquitto_acl import load_mosquitto
from mqttd.access.rule_file import load_rules
from mqttd.config import ConfigError
from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Subparsers, command, group
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, AccessRequest, Avatar, Peer

ACTIONS = (PUBLISH, SUBSCRIBE, RECEIVE)
READERS: dict[str, Callable[[str], Any]] = {"file": load_rules, "mosquitto": load_mosquitto}


def add_to(subparsers: Subparsers) -> None:
    explaining = command(
        subparsers, "explain", explain, "say which rule decides, and who would get a message"
    )
    _add_question(explaining)
    acl = group(subparsers, "acl", "files of access rules")
    checking = command(acl, "check", check, "read a file of rules and say what is wrong with it")
    asking = command(acl, "ask", ask, "say what the rules of a file decide, without a daemon")
    for each in (checking, asking):
        each.add_argument("file")
        each.add_argument(
            "--type", choices=READERS, default="file", help="form of the file (default: file)"
        )
    _add_question(asking)
    asking.add_argument("--group", action="append", default=[], help="a group of the user")
    command(acl, "list", show_all, "list the rules in force and in shadow, in their order")
    command(acl, "shadow", shadow, "show what the rules in shadow would have denied")


def _add_question(parser: Any) -> None:
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("topic")
    parser.add_argument("--client", metavar="ID", default="", help="client id")
    parser.add_argument("--user", help="user name; without it, the client's own if it is known")
    parser.add_argument("--qos", type=int, choices=(0, 1, 2), default=0)
    parser.add_argument("--retain", action="store_true")
    parser.add_argument("--address", help="where the client is")
    parser.add_argument("--listener", help="name of the listener it came by")


def explain(context: Context) -> int:
    given = context.arguments
    question = {
        "action": given.action,
        "topic": given.topic,
        "client_id": given.client,
        "qos": given.qos,
        "retain": given.retain,
    }
    for name in ("user", "address", "listener"):
        if getattr(given, name) is not None:
            question[name] = getattr(given, name)
    answer = context.api.post("explain", body=question)
    if context.out.as_json:
        context.out.value(answer)
    else:
        _tell(context, answer)
    return 0 if answer["allowed"] else 1


def _tell(context: Context, answer: dict[str, Any]) -> None:
    out = context.out
    who = answer["client_id"] or "a client"
    user = f"user {answer['user']}" if answer["user"] is not None else "no user"
    out.line(f"{who} ({user}, {answer['state']}): {answer['topic']}")
    out.line(f"{'allowed' if answer['allowed'] else 'denied'}: {answer['by']}")
    if answer["shadow"] is not None:
        verdict = "allow" if answer["shadow"]["allowed"] else "deny"
        out.line(f"in shadow: would {verdict}: {answer['shadow']['by']}")
    if answer["receivers"]:
        out.table(answer["receivers"], ("client_id", "group", "qos", "outcome", "by"))
    left = answer["total_receivers"] - len(answer["receivers"])
    if left:
        out.line(f"and {left} more")
    elif answer["allowed"] and context.arguments.action == PUBLISH and not answer["receivers"]:
        out.line("nobody subscribes to it")


def check(context: Context) -> None:
    given = context.arguments
    _load(given.type, given.file)
    context.out.line(f"{given.file} can be used")


def ask(context: Context) -> int:
    given = context.arguments
    rules = _load(given.type, given.file)
    peer = None if given.address is None else Peer(given.address)
    decision = rules.decide(
        AccessRequest(
            Avatar(given.user, claims={"groups": given.group}),
            given.client,
            peer,
            given.listener or "",
            given.action,
            given.topic,
            given.qos,
            given.retain,
        )
    )
    allowed = decision is not None and decision.allowed
    by = "no rule fits" if decision is None else decision.by
    if context.out.as_json:
        context.out.value({"allowed": allowed, "by": by})
    else:
        context.out.line(f"{'allowed' if allowed else 'denied'}: {by}")
    return 0 if allowed else 1


def show_all(context: Context) -> None:
    rules = list(context.api.items("access", "rules"))
    columns = ("number", "decision", "actions", "topics", "who", "qos", "retain", "shadow", "title")
    context.out.table(rules if context.out.as_json else map(_in_words, rules), columns)


def _in_words(rule: dict[str, Any]) -> dict[str, Any]:
    decision = {True: "allow", False: "deny", None: "looked up"}[rule["allow"]]
    return {
        **rule,
        "decision": decision,
        "topics": rule["topics"] or "every",
        "who": rule["who"] or "everybody",
        "title": rule["title"] if rule["line"] is None else f"{rule['title']}, line {rule['line']}",
    }


def shadow(context: Context) -> None:
    answer = context.api.get("access", "shadow")
    if context.out.as_json:
        context.out.value(answer)
        return
    context.out.line(f"{answer['total']} decisions would have been a no")
    columns = ("count", "client_id", "user", "action", "topic", "by")
    context.out.table(answer["reports"], columns)


def _load(kind: str, path: str) -> Any:
    try:
        return READERS[kind](path)
    except ConfigError as error:
        raise Failed("\n".join(error.lines())) from None
