"""The fuzzer of the parser, briefly; and that it would find something."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz_parser


def test_a_thousand_mutations_find_nothing() -> None:
    fuzz_parser.run_random(len(fuzz_parser.corpus()) + 1000, seed=1)


def test_a_failure_stops_the_run_and_shows_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    def check(data: bytes) -> None:
        raise RuntimeError("found")

    with pytest.raises(RuntimeError, match="found"):
        fuzz_parser.run_random(10, seed=1, check_one=check)
    assert fuzz_parser.corpus()[0].hex() in capsys.readouterr().err
