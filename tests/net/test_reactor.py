"""The lean reactor does what we rely on, by Twisted's own tests of reactors."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.test import (
    test_core,
    test_tcp,
    test_threads,
    test_time,
)

from mqttd.net.reactor import LeanReactor

#: Twisted's test builders for the behaviour that a broker stands on.
BUILDERS: tuple[Any, ...] = (
    test_core.SystemEventTestsBuilder,
    test_tcp.TCPPortTestsBuilder,
    test_tcp.TCPConnectionTestsBuilder,
    test_tcp.TCPFDPortTestsBuilder,
    test_tcp.TCPTransportTestsBuilder,
    test_tcp.AbortConnectionTests,
    test_threads.ThreadTestsBuilder,
    test_time.TimeTestsBuilder,
)


def _for_the_lean_reactor(builder: Any) -> dict[str, Any]:
    """Test cases of *builder* for our reactor instead of Twisted's list."""
    name = f"{LeanReactor.__module__}.{LeanReactor.__qualname__}"
    lean = type(builder.__name__, (builder,), {"_reactors": [name]})
    cases: dict[str, Any] = lean.makeTestCaseClasses()  # type: ignore[attr-defined]
    return cases


for _builder in BUILDERS:
    for _name, _case in _for_the_lean_reactor(_builder).items():
        _case.__module__ = __name__
        globals()[f"{_builder.__name__}_{_name}"] = _case


def test_twistd_finds_it() -> None:
    from twisted.application.reactors import getReactorTypes

    names = [reactor.shortName for reactor in getReactorTypes()]
    assert names.count("mqttd") == 1


@pytest.mark.parametrize("name", [builder.__name__ for builder in BUILDERS])
def test_every_builder_gave_cases(name: str) -> None:
    cases = [case for key, case in globals().items() if key.startswith(f"{name}_")]
    assert any(method.startswith("test_") for case in cases for method in dir(case))
