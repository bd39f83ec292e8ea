"""Alarms of file descriptors, clock and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mqttd.admin.alarms import Alarm, Severity
from mqttd.admin.machine import (
    CERTIFICATE_INTERVAL,
    INTERVAL,
    STEP_MEMORY,
    Machine,
    clock_offset,
    file_limit,
    open_files,
)
from mqttd.settings import BrokerSettings, HTTPSettings, ListenerSettings, TLSSettings
from mqttd.testing.certificates import Authority

from .conftest import Watched


class Machinery(Watched):
    """Its machine is as the test says."""

    def __init__(self, settings: BrokerSettings | None = None) -> None:
        super().__init__(settings or BrokerSettings())
        self.files: int | None = 10
        self.limit = 1000
        self.offset = 5000.0
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.machine = Machine(
            self.broker,
            self.admin.alarms,
            files=lambda: self.files,
            limit=lambda: self.limit,
            offset=lambda: self.offset,
            now=lambda: self.now,
        )
        # Of its own it has another, which looks at the machine that there is.
        self.admin.machine.stop()
        for alarm in self.admin.alarms.active:
            self.admin.alarms.clear(alarm.id)
        self.machine.start()

    def look(self, seconds: float = INTERVAL + 1) -> dict[str, Alarm]:
        self.advance(seconds)
        return {alarm.id: alarm for alarm in self.admin.alarms.active}

    def stop(self) -> None:
        self.machine.stop()
        super().stop()


@pytest.fixture
def machinery() -> Iterator[Machinery]:
    made = Machinery()
    yield made
    made.stop()


def test_this_machine_can_be_asked() -> None:
    used = open_files()
    assert used is None or 0 < used < 1_000_000
    assert file_limit() != 0
    assert abs(clock_offset() - clock_offset()) < 1


def test_when_descriptors_get_short_there_is_an_alarm_until_there_are_some(
    machinery: Machinery,
) -> None:
    assert machinery.look() == {}
    machinery.files = 850
    alarm = machinery.look()["file-descriptors"]
    assert "850 of 1000" in alarm.summary
    machinery.files = 800
    assert "file-descriptors" in machinery.look()
    machinery.files = 700
    assert machinery.look() == {}


def test_where_nobody_tells_or_nothing_limits_there_is_no_alarm(machinery: Machinery) -> None:
    machinery.files = None
    assert machinery.look() == {}
    machinery.files, machinery.limit = 10_000, -1
    assert machinery.look() == {}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_is_told_for_a_while(machinery: Machinery, step: float) -> None:
    machinery.offset += 1  # as time is kept by small corrections
    assert machinery.look() == {}
    machinery.offset += step
    assert f"{step:+.1f} s" in machinery.look()["clock-step"].summary
    assert "clock-step" in machinery.look(STEP_MEMORY / 2)
    assert machinery.look(STEP_MEMORY) == {}


def end_of(path: Path) -> datetime:
    return min(
        each.not_valid_after_utc for each in x509.load_pem_x509_certificates(path.read_bytes())
    )


def test_before_a_certificate_ends_there_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    path.write_bytes(Authority().issue("localhost").certificate_pem)
    tls = TLSSettings(certificate=str(path))
    machinery = Machinery(
        BrokerSettings(
            listeners=(ListenerSettings("tcp:0", tls=tls),),
            http=HTTPSettings(certificate=str(path)),
        )
    )
    name, ends = f"certificate:{path}", end_of(path)
    machinery.now = ends - timedelta(days=22)
    assert machinery.look(CERTIFICATE_INTERVAL + 60) == {}
    machinery.now = ends - timedelta(days=20)
    assert machinery.look(CERTIFICATE_INTERVAL + 60)[name].severity is Severity.WARNING
    machinery.now = ends + timedelta(days=1)
    alarm = machinery.look(CERTIFICATE_INTERVAL + 60)[name]
    assert (alarm.severity, "has ended" in alarm.summary) == (Severity.CRITICAL, True)
    machinery.now = ends - timedelta(days=60)
    assert machinery.look(CERTIFICATE_INTERVAL + 60) == {}
    path.write_text("nonsense")
    assert machinery.look(CERTIFICATE_INTERVAL + 60) == {}
    machinery.stop()
