"""The lists of reasons are what the code counts by: nothing is missing, nothing is left over."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from mqttd.broker.reasons import CLOSED, DROPPED, FAILURES, REFUSED
from mqttd.wire.codes import ReasonCode

ROOT = Path(__file__).parents[2]

#: A bridge has counters of its own; the client library and the tools have none.
ELSEWHERE = ("bridge", "client", "ctl", "testing")

#: What takes a reason: name of the function -> the place of the reason by how many
#: arguments there are, and its list.
TAKERS: dict[str, tuple[dict[int, int], Mapping[str, str]]] = {
    "disconnect": ({3: 2, 4: 2}, CLOSED),
    "end": ({1: 0, 2: 0}, CLOSED),
    "connection_lost": ({1: 0}, CLOSED),
    "drop": ({2: 1}, DROPPED),
    "_refused": ({1: 0}, REFUSED),
    "_refuse": ({1: 0}, REFUSED),
    "refuse": ({1: 0, 3: 2, 4: 2}, REFUSED),
    "Refused": ({3: 2, 4: 2}, REFUSED),
    "_not_admitted": ({1: 0}, REFUSED),
}

#: Where ``end`` and ``connection_lost`` are those of a connection: others end, too.
CONNECTIONS = ("connection", "self.connection", "self", "super()", "self.client")
OF_A_CONNECTION = ("connection.py", "handshake.py", "inprocess.py", "passage.py")

#: The counters themselves.
COUNTERS = {"closed": CLOSED, "dropped": DROPPED, "refused": REFUSED}

#: Functions that pass on what they were given, or what came from another list:
#: what they are called with is looked at where that happens.
PASS_ON = {
    "broker/connection.py:connection_lost",
    "broker/connection.py:disconnect",
    "broker/connection.py:end",
    "broker/connection.py:refuse",
    "broker/durable_session.py:_refused",
    "broker/durable_session.py:drop",
    # Of the authenticator: interfaces.CredentialsRefused and its like say which.
    "broker/handshake.py:_login_refused",
    "broker/handshake.py:_guarded",
    "broker/handshake.py:finish",
    "broker/handshake.py:_check_admission",
    "broker/handshake.py:_not_admitted",
    "broker/inprocess.py:_not_opened",
    "broker/inprocess.py:end",
    # What check_topic_name and check say: codes that stand in DROPPED.
    "broker/hooked.py:_decided",
    "broker/hooked.py:publish",
    "broker/receiving.py:publish",
    "broker/receiving.py:refuse",
    "broker/retained.py:store",
    "broker/session.py:_refused",
    "broker/session.py:drop",
    "net/gate.py:admits",
    "net/gate.py:refuse",
    "net/protocol.py:connectionLost",
    "net/proxy.py:_refuse",
    "net/websocket.py:_refused",
}


def sources() -> list[Path]:
    package = ROOT / "mqttd"
    return [
        path
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in ELSEWHERE and path.name != "reasons.py"
    ]


def value_of(node: ast.expr, path: Path) -> str | None:
    """The text that *node* stands for; None when that is only known at run time."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ReasonCode":
        return node.attr.lower().replace("_", "-")
    if isinstance(node, ast.Name) and node.id.isupper():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found = getattr(import_module(module), node.id)
        return found if isinstance(found, str) else None
    return None


def uses(
    tree: ast.AST, path: Path, function: str = ""
) -> Iterator[tuple[str, ast.expr, Mapping[str, str]]]:
    """Wherever a reason is given: the function around it, the reason, and its list."""
    for node in ast.iter_child_nodes(tree):
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        inside = node.name if is_function else function  # type: ignore[attr-defined]
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript):
            counter = node.target.value
            if isinstance(counter, ast.Attribute) and counter.attr in COUNTERS:
                yield inside, node.target.slice, COUNTERS[counter.attr]
        if isinstance(node, ast.Call) and (taken := given(node, path)) is not None:
            yield inside, *taken
        yield from uses(node, path, inside)


def given(call: ast.Call, path: Path) -> tuple[ast.expr, Mapping[str, str]] | None:
    """The reason among the arguments of *call*, and its list; None where there is none."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name in ("end", "connection_lost") and not (
        owner in CONNECTIONS and (path.parent.name == "net" or path.name in OF_A_CONNECTION)
    ):
        return None
    if name == "refuse" and (owner == "receiving" or path.name == "receiving.py"):
        return call.args[2], DROPPED
    places, known = TAKERS.get(name, ({}, {}))
    place = places.get(len(call.args))
    return None if place is None else (call.args[place], known)


def test_no_reason_is_given_that_is_not_in_its_list() -> None:
    wrong, passed_on = [], set()
    for path in sources():
        for function, node, known in uses(ast.parse(path.read_text()), path):
            where = f"{path.relative_to(ROOT / 'mqttd')}:{function}"
            value = value_of(node, path)
            if value is None:
                passed_on.add(where)
            elif value not in known:
                wrong.append(f"{where} counts under {value!r}, which is in no list")
    assert wrong == []
    assert passed_on == PASS_ON


def test_no_reason_is_in_a_list_that_nothing_gives() -> None:
    text = "".join(path.read_text() for path in sources())
    codes = {code.name.lower().replace("_", "-") for code in ReasonCode}
    for reason in {*CLOSED, *REFUSED, *DROPPED} - codes:
        assert f'"{reason}"' in text, reason


def test_what_is_refused_before_connack_is_known_as_such() -> None:
    """``Connection.disconnect`` refuses a client whose CONNACK has not gone out."""
    for reason in ("administrative-action", "kicked", "queue-full", "revoked", "taken-over"):
        assert reason in CLOSED
        assert reason in REFUSED
    assert set(CLOSED) >= FAILURES
