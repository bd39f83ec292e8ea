"""Who may do what: explanations, reports of rules in shadow, and bans."""

from __future__ import annotations

import time
from typing import Any

from attrs import asdict

from mqttd.access.admission import Admission
from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import KINDS, Ban, BanError
from mqttd.access.explain import Question, QuestionError, explain
from mqttd.access.rule_list import list_rules
from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import page, page_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import PAGING, Role, Route
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE

NAME = {"type": "string", "maxLength": 65_535}
DECISION = {
    "type": "object",
    "required": ["allowed", "by"],
    "properties": {
        "allowed": {"type": "boolean", "description": "Whether it is allowed."},
        "by": {"type": "string", "description": "The rule or backend that decides."},
    },
}
QUESTION = {
    "type": "object",
    "required": ["action", "topic"],
    "additionalProperties": False,
    "properties": {
        "action": {"enum": [PUBLISH, SUBSCRIBE, RECEIVE], "description": "What is to be done."},
        "topic": {
            **NAME,
            "minLength": 1,
            "description": "The topic, or the filter of a subscription.",
        },
        "client_id": {**NAME, "description": "The client; it need not be connected."},
        "user": {
            **NAME,
            "minLength": 1,
            "description": "The user; by default whoever the client is now.",
        },
        "qos": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2,
            "description": "The quality of service; 0 if not given.",
        },
        "retain": {"type": "boolean", "description": "Whether the message is to be retained."},
        "address": {
            "type": "string",
            "maxLength": 64,
            "description": "Where the client comes from.",
        },
        "listener": {"type": "string", "maxLength": 1024, "description": "Name of its listener."},
        "claims": {
            "type": "object",
            "description": "What its token says, for rules that look at that.",
        },
    },
}
EXPLANATION = {
    "type": "object",
    "required": ["allowed", "by", "state", "topic", "receivers", "total_receivers"],
    "properties": {
        **DECISION["properties"],  # type: ignore[dict-item]
        "client_id": {"type": "string", "description": "The client id."},
        "user": {
            "type": ["string", "null"],
            "description": "The user; null: none.",
        },
        "state": {
            "enum": ["connected", "session", "unknown"],
            "description": "How the client is known.",
        },
        "topic": {"type": "string", "description": "With the mount point."},
        "shadow": {
            "anyOf": [DECISION, {"type": "null"}],
            "description": "What the rules in shadow say; null: there are none.",
        },
        "receivers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "client_id": {
                        "type": "string",
                        "description": "The client id.",
                    },
                    "group": {
                        "type": ["string", "null"],
                        "description": "The share name; null: a subscription of its own.",
                    },
                    "qos": {
                        "type": "integer",
                        "description": "The quality of service.",
                    },
                    "outcome": {
                        "enum": ["sent", "queued", "denied", "dropped"],
                        "description": "What would become of it.",
                    },
                    "by": {"type": "string", "description": "The rule or backend that decides."},
                },
            },
            "description": "Who would get it, the first ones.",
        },
        "total_receivers": {"type": "integer", "description": "How many there are in all."},
    },
}
RULE = {
    "type": "object",
    "required": ["number", "source", "shadow", "title", "allow", "actions", "topics", "who"],
    "properties": {
        "number": {"type": "integer", "description": "The first that fits decides."},
        "source": {"type": "string", "description": "The [[authorization]] that has it."},
        "shadow": {"type": "boolean", "description": "It only reports."},
        "title": {"type": "string", "description": "What explanations call it."},
        "allow": {
            "type": ["boolean", "null"],
            "description": "null: a source that looks up the rules of each client.",
        },
        "actions": {
            "type": "array",
            "items": {"enum": [PUBLISH, SUBSCRIBE, RECEIVE]},
            "description": "What it is about.",
        },
        "topics": {
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "null: every topic.",
        },
        "who": {"type": "object", "description": "Conditions; without any, everybody."},
        "qos": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "null: every one.",
        },
        "retain": {"type": ["boolean", "null"], "description": "null: retained or not."},
        "line": {"type": ["integer", "null"], "description": "Where it begins in its file."},
    },
}
SHADOW = {
    "type": "object",
    "required": ["total", "reports"],
    "properties": {
        "total": {"type": "integer", "description": "Decisions that would have been a no."},
        "reports": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "client_id": {
                        "type": "string",
                        "description": "The client id.",
                    },
                    "user": {
                        "type": ["string", "null"],
                        "description": "The user; null: none.",
                    },
                    "action": {"type": "string", "description": "What is to be done."},
                    "topic": {
                        "type": "string",
                        "description": "The topic, or the filter of a subscription.",
                    },
                    "by": {"type": "string", "description": "The rule or backend that decides."},
                    "count": {"type": "integer", "description": "How often."},
                },
            },
            "description": "Each, the most frequent first.",
        },
    },
}
BAN = {
    "type": "object",
    "required": ["kind", "value"],
    "properties": {
        "kind": {"enum": list(KINDS), "description": "What is banned."},
        "value": {"type": "string", "description": "The client id, user, address or network."},
        "until": {"type": ["number", "null"], "description": "Seconds since 1970; null: for ever."},
        "reason": {"type": "string", "description": "Why, for people."},
        "by": {"type": "string", "description": "The rule or backend that decides."},
        "since": {"type": "number", "description": "Unix time, seconds."},
        "persistent": {"type": "boolean", "description": "It outlives a restart."},
    },
}
MADE_BAN = {
    **BAN,
    "properties": {
        **BAN["properties"],  # type: ignore[dict-item]
        "ended": {"type": "integer", "description": "Connections that it ended."},
    },
}
NEW_BAN = {
    "type": "object",
    "required": ["kind", "value"],
    "additionalProperties": False,
    "properties": {
        "kind": {"enum": list(KINDS), "description": "What is banned."},
        "value": {
            **NAME,
            "minLength": 1,
            "description": "The client id, user, address or network.",
        },
        "seconds": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1e10,
            "description": "How long; for ever if not given.",
        },
        "reason": {"type": "string", "maxLength": 1024, "description": "Why, for people."},
    },
}


async def explain_it(call: Call) -> dict[str, Any]:
    try:
        return asdict(await explain(call.daemon.broker, Question(**call.body)))
    except QuestionError as error:
        raise Problem(422, f"This cannot be asked: {error}.") from None


def _control(call: Call) -> AccessControl:
    authorizer = call.daemon.broker.authorizer
    if not isinstance(authorizer, AccessControl):
        raise Problem(404, "The program's own authorizer decides; its rules are not known here.")
    return authorizer


async def show_rules(call: Call) -> dict[str, Any]:
    # A page is in the order of names, and these are in that of numbers.
    rules = {f"{number:07}": rule for number, rule in enumerate(list_rules(_control(call)), 1)}
    return await page(call, rules, lambda name: {"number": int(name), **asdict(rules[name])})


def show_shadow(call: Call) -> dict[str, Any]:
    authorizer = _control(call)
    names = ("client_id", "user", "action", "topic", "by")
    reports = [
        {**dict(zip(names, report, strict=True)), "count": count}
        for report, count in authorizer.reports.counts.most_common()
    ]
    return {"total": authorizer.reports.total, "reports": reports}


def _admission(call: Call) -> Admission:
    admission = call.daemon.broker.admission
    if not isinstance(admission, Admission):
        raise Problem(404, "This broker has no bans.")
    return admission


async def show_bans(call: Call) -> dict[str, Any]:
    bans = {f"{ban.kind} {ban.value}": ban for ban in _admission(call).bans}
    return await page(call, bans, lambda name: asdict(bans[name]))


def add_ban(call: Call) -> dict[str, Any]:
    body = call.body
    until = time.time() + body["seconds"] if "seconds" in body else None
    ban = Ban(body["kind"], body["value"], until, body.get("reason", ""), call.identity.name)
    try:
        made, ended = _admission(call).ban(ban)
    except BanError as error:
        raise Problem(422, f"This cannot be banned: {error}.") from None
    except OSError as error:
        raise _not_kept(error) from None
    return {**asdict(made), "ended": ended}


def remove_ban(call: Call) -> None:
    kind, value = call.path["kind"], call.path["value"]
    try:
        removed = _admission(call).bans.remove(kind, value)
    except BanError as error:
        raise Problem(422, f"This cannot be banned: {error}.") from None
    except OSError as error:
        raise _not_kept(error) from None
    if removed is None:
        raise not_found(f"ban of {kind}", value)


def _not_kept(error: OSError) -> Problem:
    return Problem(503, f"The file of bans cannot be written: {error.strerror}. Nothing changed.")


ROUTES = (
    Route(
        "POST",
        "/explain",
        Role.VIEWER,
        explain_it,
        "What decides about a publication, subscription or delivery",
        "access",
        body=QUESTION,
        example={"body": {"action": "publish", "topic": "plant/1/level", "client_id": "sensor-12"}},
        answer=EXPLANATION,
        problems=(422,),
        changes=False,
    ),
    Route(
        "GET",
        "/access/rules",
        Role.VIEWER,
        show_rules,
        "The rules in force and in shadow, in the order in which they are asked",
        "access",
        query=PAGING,
        answer=page_of(RULE),
        problems=(404,),
    ),
    Route(
        "GET",
        "/access/shadow",
        Role.VIEWER,
        show_shadow,
        "What the rules in shadow would have denied",
        "access",
        answer=SHADOW,
        problems=(404,),
    ),
    Route(
        "GET",
        "/bans",
        Role.VIEWER,
        show_bans,
        "Who is banned",
        "access",
        query=PAGING,
        answer=page_of(BAN),
        problems=(404,),
    ),
    Route(
        "POST",
        "/bans",
        Role.OPERATOR,
        add_ban,
        "Ban a client id, user, address or network, and end its connections",
        "access",
        body=NEW_BAN,
        example={
            "body": {"kind": "client_id", "value": "sensor-66", "seconds": 3600, "reason": "floods"}
        },
        answer=MADE_BAN,
        status=201,
        problems=(404, 422, 503),
    ),
    Route(
        "DELETE",
        "/bans/{kind}/{value}",
        Role.OPERATOR,
        remove_ban,
        "End a ban",
        "access",
        example={"kind": "client_id", "value": "sensor-67"},
        problems=(404, 422, 503),
    ),
)
