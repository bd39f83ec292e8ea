"""``mqttctl store``: backup, restore, check, dump and import of what is kept.

These work on the files of the store and not through the daemon's API, so they
run on its machine, as its user or as root.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from attrs import asdict

from mqttd.config import ConfigError, find_config, load_settings
from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Run, Subparsers, command, group
from mqttd.interfaces import StoreError
from mqttd.paths import SYSTEM
from mqttd.store import dump, operations
from mqttd.store.directory import default_directory
from mqttd.store.schema import DATABASE


def add_to(subparsers: Subparsers) -> None:
    store = group(subparsers, "store", "what the daemon keeps on disk")
    saving = _command(store, "backup", backup, "copy the store while the daemon runs")
    saving.add_argument("file", help="the new file")
    restoring = _command(store, "restore", restore, "put a backup in place of the store")
    restoring.add_argument("file", help="the backup")
    checking = _command(store, "check", check, "look for damage; the daemon must not run")
    checking.add_argument(
        "--repair", action="store_true", help="take out what does not fit; accept a lost log"
    )
    _command(store, "dump", write_dump, "write all of it as lines of JSON, also while it is used")
    loading = _command(store, "import", load, "add what a dump holds; the daemon must not run")
    loading.add_argument("file", help='the dump; "-" is standard input')


def _command(store: Subparsers, name: str, run: Run, help: str) -> ArgumentParser:
    def translated(context: Context) -> int | None:
        try:
            return run(context)
        except (StoreError, OSError) as error:
            raise Failed(str(error)) from error

    parser = command(store, name, translated, help)
    parser.add_argument(
        "--data-dir",
        metavar="DIRECTORY",
        help="the daemon's data directory, if the configuration that is found does not name "
        "it, and it is neither $STATE_DIRECTORY, your own nor the system's",
    )
    return parser


def directory_of(context: Context) -> Path:
    """The data directory that is meant: as given, as configured, or where a store is."""
    given: str | None = context.arguments.data_dir
    if given is None:
        given = _configured()
    if given:
        return Path(given)
    candidates = [Path(default_directory()), *SYSTEM]
    return next((each for each in candidates if (each / DATABASE).exists()), candidates[0])


def _configured() -> str:
    """What the configuration says that a daemon of ours would take; "" if nothing."""
    try:
        return load_settings(find_config()).data_directory
    except ConfigError as error:
        text = "; ".join(error.lines())
        raise Failed(f"{text}; name the data directory with --data-dir") from error


def backup(context: Context) -> None:
    directory, file = directory_of(context), context.arguments.file
    size = operations.backup(directory, file)
    context.out.line(f"{directory / DATABASE} is in {file}: {size} bytes")
    if context.out.as_json:
        context.out.value({"store": str(directory / DATABASE), "file": file, "size": size})


def restore(context: Context) -> None:
    directory, file = directory_of(context), context.arguments.file
    aside = [str(path) for path in operations.restore(file, directory)]
    context.out.line(f"{file} is the store in {directory} now")
    for path in aside:
        context.out.line(f"what was there is in {path}")
    if context.out.as_json:
        context.out.value({"directory": str(directory), "replaced": aside})


def check(context: Context) -> int:
    report = operations.check(directory_of(context), context.arguments.repair)
    context.out.value(asdict(report))
    return 1 if report.problems and not report.repaired else 0


def write_dump(context: Context) -> None:
    for line in dump.dump(directory_of(context)):
        print(json.dumps(line, ensure_ascii=False), file=context.out.stream)


def load(context: Context) -> None:
    directory, file = directory_of(context), context.arguments.file
    if file == "-":
        counts = dump.load(sys.stdin, directory)
    else:
        with open(file, encoding="utf-8") as lines:
            counts = dump.load(lines, directory)
    context.out.value(counts)
