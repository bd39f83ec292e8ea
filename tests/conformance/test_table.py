"""The conformance table itself: whole, and honest about what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.__main__ import as_markdown, as_rst, as_text, main
from tests.conformance.table import (
    Place,
    Table,
    build,
    labels_in_code,
    labels_in_tests,
    read_statements,
)


@pytest.fixture(scope="module")
def table() -> Table:
    return build()


def test_every_statement_that_binds_a_server_has_code_and_tests(table: Table) -> None:
    assert table.unknown == []
    assert [f"{row.statement.label}: {row.problems}" for row in table.incomplete] == []


def test_all_statements_of_both_specifications_are_there() -> None:
    labels = list(read_statements()[0])
    assert sum(label.startswith("MQTT-") for label in labels) == 252
    assert sum(label.startswith("MQTT311-") for label in labels) == 141


def test_gists_are_short_and_exceptions_say_why() -> None:
    for statement in read_statements()[0].values():
        assert 0 < len(statement.gist.split()) <= 10, statement.label
        assert bool(statement.why) is not statement.binds_a_server, statement.label


def test_labels_on_lines_of_code(tmp_path: Path) -> None:
    source = tmp_path / "code.py"
    source.write_text('a = 1  # [MQTT-1.5.4-1] [MQTT311-1.5.3-1]\n\n"""[MQTT-9.9-9x]"""\n')
    assert list(labels_in_code(source, tmp_path)) == [
        ("MQTT-1.5.4-1", Place("code.py", 1)),
        ("MQTT311-1.5.3-1", Place("code.py", 1)),
        ("MQTT-9.9-9x", Place("code.py", 3)),
    ]


def test_labels_on_tests_classes_and_parameters(tmp_path: Path) -> None:
    source = tmp_path / "test_it.py"
    source.write_text(
        "import pytest\n"
        "@pytest.mark.statement('A', 'B')\n"
        "class TestIt:\n"
        "    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.statement('C'))])\n"
        "    def test_one(self, x): ...\n"
        "def test_two(): ...\n"
    )
    assert [(label, str(place)) for label, place in labels_in_tests(source, tmp_path)] == [
        ("A", "test_it.py::TestIt"),
        ("B", "test_it.py::TestIt"),
        ("C", "test_it.py::TestIt::test_one"),
    ]


def test_a_hole_and_an_unknown_label_are_reported(tmp_path: Path) -> None:
    (tmp_path / "mqttd").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "mqttd" / "code.py").write_text("# [MQTT-3.12.4-1]\n# [MQTT-3.12.4-99]\n")
    (tmp_path / "tests" / "test_ping.py").write_text(
        "import pytest\n"
        "@pytest.mark.statement('MQTT-3.12.4-1', 'MQTT-3.1.0-1')\n"
        "def test_ping(): ...\n"
    )
    table = build(tmp_path)
    assert table.unknown == [("MQTT-3.12.4-99", Place("mqttd/code.py", 2))]
    assert table.rows["MQTT-3.12.4-1"].problems == []
    assert table.rows["MQTT-3.1.0-1"].problems == ["no line of code"]
    assert table.rows["MQTT-3.1.0-2"].problems == ["no line of code", "no test"]
    assert table.rows["MQTT-3.1.2-20"].problems == []  # binds clients only


@pytest.mark.parametrize("form", [as_text, as_markdown, as_rst])
def test_every_form_names_statement_code_and_test(form: object, table: Table) -> None:
    assert callable(form)
    shown = "\n".join(form(table.rows.values()))
    for part in ("MQTT-3.12.4-1", "MQTT311-3.12.4-1", "connection.py:", "test_ping"):
        assert part in shown


def test_the_command_says_by_its_status_whether_the_table_is_whole(
    capsys: pytest.CaptureFixture[str], table: Table
) -> None:
    assert main(["--missing"]) == (1 if table.incomplete else 0)
    assert "bind a server" in capsys.readouterr().out
