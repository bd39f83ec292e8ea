"""What the daemon's log shows."""

from __future__ import annotations

import json
import sys
import warnings
from io import StringIO

from twisted.logger import (
    FileLogObserver,
    LogBeginner,
    Logger,
    LogPublisher,
    textFileLogObserver,
)

from mqttd.log import LogControl


class Logged:
    """A log of its own, begun as a runner does it."""

    def __init__(self, control: LogControl) -> None:
        publisher = LogPublisher()
        beginner = LogBeginner(publisher, StringIO(), sys, warnings)
        control.attach(beginner)
        self.file = StringIO()
        observer = textFileLogObserver(self.file)
        assert isinstance(observer, FileLogObserver)
        beginner.beginLoggingTo([observer], redirectStandardIO=False)
        self.ours = Logger("mqttd.net.listener", observer=publisher)
        self.other = Logger("other", observer=publisher)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_only_what_matters_enough_is_written() -> None:
    control = LogControl()
    control.apply("warn", {})
    log = Logged(control)
    log.ours.info("too little")
    log.ours.warn("enough")
    assert [line.endswith("enough") for line in log.lines] == [True]


def test_a_module_may_have_a_level_of_its_own() -> None:
    control = LogControl()
    control.apply("warn", {"mqttd.net": "debug"})
    log = Logged(control)
    log.ours.debug("ours")
    log.other.debug("other")
    assert [line.endswith("ours") for line in log.lines] == [True]


def test_levels_change_while_it_runs() -> None:
    control = LogControl()
    control.apply("warn", {"mqttd.net": "debug"})
    log = Logged(control)
    control.apply("info", {})
    log.ours.debug("too little now")
    log.other.info("enough now")
    assert [line.endswith("enough now") for line in log.lines] == [True]


def test_json_has_one_event_a_line() -> None:
    control = LogControl()
    control.apply("info", {}, "json")
    log = Logged(control)
    log.ours.info("two\nlines from {client}", client="a")
    (line,) = log.lines
    assert json.loads(line)["client"] == "a"
