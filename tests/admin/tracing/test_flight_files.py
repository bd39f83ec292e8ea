"""Failures in files: what is there after a restart, what is not, and what a disk may do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mqttd.admin import Admin
from mqttd.admin.tracing import files
from mqttd.settings import BrokerSettings
from mqttd.settings_watch import FlightSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.testing.replay import replay
from mqttd.wire.packets import Connect, Disconnect, Publish


class Site:
    """A broker with a data directory; another one after it finds what it left."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.virtual = VirtualBroker(
            BrokerSettings(flight=FlightSettings(**settings), data_directory=str(directory))
        )
        self.connect, self.advance = self.virtual.connect, self.virtual.advance
        self.admin = Admin(
            self.virtual.broker, wall_clock=lambda: 1000 + self.virtual.clock.seconds()
        )
        self.admin.start()
        self.flights = self.admin.flights

    def fail(self, name: str) -> VirtualClient:
        client = self.connect(name)
        client.subscribe("t/#")
        client.publish("t/1", b"payload", qos=1)
        client.send(Publish("", b"x", properties={"topic_alias": 9}))
        return client

    def change(self, **settings: Any) -> None:
        broker = self.virtual.broker
        broker.settings = evolve(broker.settings, flight=FlightSettings(**settings))
        self.flights.changed()

    def stop(self) -> None:
        self.admin.stop()
        self.virtual.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        made.append(Site(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "failures"


def test_a_failure_outlives_the_broker(site: Callable[..., Site]) -> None:
    client = site().fail("a/b")
    again = site()
    (kept,) = again.flights.failures.values()
    assert (kept.client_id, kept.cause, kept.count) == ("a/b", "violation", 1)
    played = replay(kept.document())
    assert played.received[-1] == client.take(Disconnect)[0]
    played.broker.stop()
    again.fail("a/b")
    assert again.flights.failures["a/b"].count == 2
    assert site().flights.failures["a/b"].count == 2


def test_nobody_else_can_read_it_and_there_is_no_payload_in_it(
    site: Callable[..., Site], folder: Path
) -> None:
    one = site()
    one.connect("a", user_name="ann", password=b"hush").close()
    one.fail("a")
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    text = path.read_text()
    assert json.loads(text)["records"]
    for secret in (b"payload", b"hush"):
        assert secret.decode() not in text.replace("payload_size", "")
        assert secret.hex() not in text


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a\nb", "ü" * 200, "<b>"])
def test_a_client_id_leads_nowhere_else(site: Callable[..., Site], folder: Path, name: str) -> None:
    site().fail(name)
    (path,) = folder.iterdir()
    assert path.name.isascii()
    assert len(path.name) < 255
    assert list(site().flights.failures) == [name]


def test_there_are_so_many_files_and_the_oldest_go(site: Callable[..., Site], folder: Path) -> None:
    one = site(maximum_failures=3)
    for name in "abcde":
        one.fail(name)
        one.advance(1)
    assert list(site(maximum_failures=3).flights.failures) == ["c", "d", "e"]
    assert len(list(folder.iterdir())) == 3
    # Fewer at the next start, and none.
    assert list(site(maximum_failures=1).flights.failures) == ["e"]
    assert len(list(folder.iterdir())) == 1
    assert list(site(maximum_failures=0).flights.failures) == []
    assert list(folder.iterdir()) == []


def test_a_flood_of_failures_writes_so_many_a_second(
    site: Callable[..., Site], folder: Path
) -> None:
    one = site()
    for number in range(25):
        one.fail(str(number))
    assert len(list(folder.iterdir())) == files.RATE
    one.advance(1)
    assert len(list(folder.iterdir())) == 2 * files.RATE
    one.advance(1)
    assert len(list(folder.iterdir())) == 25
    # Who fails again and again is written as seldom.
    for _ in range(100):
        one.fail("again")
    one.stop()
    assert site().flights.failures["again"].count == 100


def test_a_disk_that_takes_nothing_harms_nobody_and_is_told_once(
    site: Callable[..., Site], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = site()
    folder.write_text("in the way")
    for name in "abc":
        one.fail(name)
    assert [alarm.id for alarm in one.admin.alarms.active] == ["flight-files"]
    assert "in [flight]" in one.admin.alarms.active[0].summary
    assert list(one.flights.failures) == ["a", "b", "c"]
    assert one.flights.failures["a"].document()["records"]
    folder.unlink()
    one.fail("d")
    assert one.admin.alarms.active == ()
    assert len(list(folder.iterdir())) == 1


def test_a_disk_that_is_full_leaves_no_half_a_file(
    site: Callable[..., Site], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = site()
    one.fail("a")
    before = {path: path.read_text() for path in folder.iterdir()}

    def full(file: int, *_: object, **__: object) -> Any:
        class Full:
            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                os.close(file)

            def write(self, text: str) -> None:
                os.write(file, text[:10].encode())
                raise OSError(28, "No space left on device")

        return Full()

    monkeypatch.setattr(files, "open", full, raising=False)
    one.fail("a")
    assert {path: path.read_text() for path in folder.iterdir()} == before
    assert "No space left" in one.admin.alarms.active[0].summary


def test_what_makes_no_sense_is_deleted_and_the_rest_is_found(
    site: Callable[..., Site], folder: Path
) -> None:
    site().fail("a")
    (path,) = folder.iterdir()
    for number, text in enumerate(["", "[]", "{}", "{", '{"client_id": "x"}']):
        folder.joinpath(f"x-{number:016}.json").write_text(text)
    # Killed in the middle of it.
    folder.joinpath(f"x-{7:016}.json.new").write_text(path.read_text())
    folder.joinpath("notes.txt").write_text("not ours")
    assert list(site().flights.failures) == ["a"]
    assert {each.name for each in folder.iterdir()} == {path.name, "notes.txt"}


def test_a_file_that_went_meanwhile_is_told(site: Callable[..., Site], folder: Path) -> None:
    site().fail("a")
    again = site()
    (path,) = folder.iterdir()
    path.unlink()
    with pytest.raises(files.FlightFileError, match="No such file"):
        again.flights.failures["a"].document()


@pytest.mark.parametrize("settings", [{"files": False}, {"maximum_failures": 0}])
def test_switched_off_nothing_is_written(
    site: Callable[..., Site], folder: Path, settings: dict[str, Any]
) -> None:
    site(**settings).fail("a")
    assert not folder.exists()


def test_the_settings_change_while_it_runs(
    site: Callable[..., Site], folder: Path, tmp_path: Path
) -> None:
    one = site()
    for name in "abc":
        one.fail(name)
        one.advance(1)
    one.change(maximum_failures=1)
    assert list(one.flights.failures) == ["c"]
    assert len(list(folder.iterdir())) == 1
    one.change(directory=str(tmp_path / "else" / "where"))
    one.fail("d")
    assert len(list((tmp_path / "else" / "where").iterdir())) == 1
    one.change(files=False)
    one.fail("e")
    assert list(one.flights.failures) == ["c", "d", "e"]
    assert len(list((tmp_path / "else" / "where").iterdir())) == 1


# --- what is a failure ----------------------------------------------------------------


def test_who_falls_silent_is_kept_and_goes_first(site: Callable[..., Site]) -> None:
    one = site(maximum_failures=2)
    one.connect("silent", keep_alive=10).publish("t", b"x")
    one.fail("a")
    one.advance(20)
    assert one.flights.failures["silent"].cause == "keep-alive"
    one.fail("b")
    assert list(one.flights.failures) == ["a", "b"]


def test_who_takes_nothing_is_kept(site: Callable[..., Site]) -> None:
    one = site()
    client = one.connect("stuck")
    connection = one.virtual.broker.connections["stuck"]
    connection.overflowed()
    assert one.flights.failures["stuck"].cause == "queue-full"
    assert client.closed
    one.connect("left").send(Disconnect())
    one.connect("left-at-once").close()
    assert list(one.flights.failures) == ["stuck"]


def test_who_comes_again_is_no_failure(site: Callable[..., Site]) -> None:
    one = site()
    one.connect("a")
    one.virtual.open().send(Connect("a"))
    assert one.flights.failures == {}
