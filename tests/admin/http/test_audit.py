"""The audit log: what it keeps, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import fail

from mqttd.admin.http import Problem, Role
from mqttd.admin.http.audit import KEPT, LONGEST, Audit
from tests.admin.http.harness import Web


def test_changes_and_attempts_can_be_read_the_newest_first(web: Web) -> None:
    web.connect("a")
    web.get("/clients")
    assert web.ask("DELETE", "/clients/a").status == 204
    assert web.ask("DELETE", "/clients/a%0ab").status == 404
    web.role = Role.VIEWER
    assert web.ask("POST", "/reload").status == 403
    assert web.ask("GET", "/audit").status == 403
    web.role = Role.ADMINISTRATOR
    found = web.get("/audit")["items"]
    assert [(each["method"], each["path"], each["status"]) for each in found] == [
        ("POST", "/api/v1/reload", 403),
        ("DELETE", "/api/v1/clients/a%0ab", 404),
        ("DELETE", "/api/v1/clients/a", 204),
    ]
    assert (found[0]["user"], found[0]["address"], found[0]["time"]) == (
        "ann",
        "192.0.2.9",
        1_767_323_045.0,
    )
    assert web.get("/audit?last=1")["items"] == found[:1]
    assert web.ask("GET", f"/audit?last={KEPT + 1}").status == 400


def test_whoever_is_not_let_in_fills_nothing(web: Web) -> None:
    def refuse(request: Any) -> Any:
        return fail(Problem(401, "Show a token."))

    web.authenticate = refuse
    assert web.ask("DELETE", "/clients/a").status == 401
    assert web.audit.last(5) == []


def test_it_is_bounded() -> None:
    audit = Audit()
    for number in range(KEPT + 10):
        audit.note("ann", "unix", "POST", "/x" * LONGEST, number)
    kept = audit.last(KEPT + 10)
    assert (len(kept), kept[0].status, kept[-1].status) == (KEPT, KEPT + 9, 10)
    assert len(kept[0].path) < LONGEST + 10


def test_a_file_gets_each_change_and_may_be_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = Audit(str(path), lambda: 5.0)
    audit.note("ann", "::1", "PUT", "/a", 204)
    assert path.stat().st_mode & 0o777 == 0o600
    path.rename(tmp_path / "audit.log.1")
    audit.note("bob", "::1", "PUT", "/b\n", 404)
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == {
        "time": 5.0,
        "user": "bob",
        "address": "::1",
        "method": "PUT",
        "path": "/b\n",
        "status": 404,
    }


@pytest.mark.parametrize("name", ["", "none/audit.log"])
def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, name: str) -> None:
    audit = Audit(str(tmp_path / name))
    audit.note("ann", "::1", "PUT", "/a", 204)
    assert len(audit.last(5)) == 1
