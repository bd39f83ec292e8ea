"""What systemd makes of the units in ``etc``, and a shell of the lines of ``Dockerfile``.

The name keeps it out of the everyday tests: ``python -m tests.systemd`` runs it. One
machine serves all cases, in their order; each leaves the service running.
"""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator

import pytest

from tests.end_to_end import callers
from tests.end_to_end.daemon import ROOT
from tests.systemd.machine import Machine, fetch_wheels, hindrance

CONFIGURATION = """
[[listener]]
endpoint = "tcp:1883"
allow_anonymous = true
"""

#: As exposure, of 100, by ``systemd-analyze security``.
EXPOSURE = 15


def shell_blocks() -> list[str]:
    """What the page tells to type, in its order: the service, then the socket."""
    page = (ROOT / "docs" / "deployment.rst").read_text()
    found = re.findall(r"^\.\. code-block:: sh\n\n((?:   .*\n|\n)+)", page, flags=re.M)
    return [textwrap.dedent(text) for text in found]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One with mqttd, installed and started as the page says."""
    reason = hindrance()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("systemd")
    service = shell_blocks()[0]
    (extras,) = re.findall(r"install '\.(\[.*\])'", service)
    machine = Machine(folder, fetch_wheels(folder, ROOT, extras))
    try:
        machine.run("cp -r /src /root/source")
        write(machine, "/root/source/mqttd.toml", CONFIGURATION)
        machine.run(f"set -e; cd /root/source\n{service}")
        yield machine
    finally:
        machine.stop()


@pytest.fixture(autouse=True)
def counted_anew(machine: Machine) -> None:
    """More starts in ten seconds than an operator makes; systemd would refuse the sixth."""
    machine.run("systemctl reset-failed mqttd")


def write(machine: Machine, path: str, text: str) -> None:
    machine.run(f"cat >{path} <<'EOF'\n{text}\nEOF")


def configure(machine: Machine, text: str) -> None:
    write(machine, "/etc/mqttd/mqttd.toml", text)


def shown(machine: Machine, *names: str) -> list[str]:
    """Properties of the service."""
    return [machine.run(f"systemctl show -P {name} mqttd").stdout.strip() for name in names]


def log(machine: Machine) -> str:
    """Of the service, since its last start."""
    return machine.run(
        "journalctl --sync; journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P "
        "InvocationID mqttd) + UNIT=mqttd.service"
    ).stdout


def test_a_start_returns_when_clients_are_served(machine: Machine) -> None:
    for _ in range(3):
        machine.run("systemctl restart mqttd && mosquitto_pub -t a -m b -q 1")
    assert shown(machine, "StatusText", "User") == ["serves tcp:1883", "mqttd"]
    assert "is enabled" not in machine.run("systemctl is-enabled mqttd").stderr


def test_nothing_in_the_log_is_a_complaint(machine: Machine) -> None:
    machine.run("systemctl restart mqttd")
    text = log(machine)
    assert "serves tcp:1883" in text
    for complaint in ("already exists", "plugin cache", "Unknown", "warn", "error"):
        assert complaint not in text


@pytest.mark.parametrize(
    ("attempt", "answer"),
    [
        *((f"touch {folder}/x", "Read-only file system") for folder in ("/etc", "/opt", "/usr")),
        ("touch /var/lib/mqttd/x && rm /var/lib/mqttd/x && touch /tmp/x", ""),
        ("touch /var/lib/x", "Read-only file system"),
        ("ls /root/source", "Permission denied"),
        ("cat /dev/kmsg", "No such file"),
        ("mkdir /sys/fs/cgroup/x", "Read-only file system"),
        ("echo 1 >/proc/sys/kernel/domainname", "Read-only file system"),
    ],
)
def test_the_sandbox_holds(machine: Machine, attempt: str, answer: str) -> None:
    (process,) = shown(machine, "MainPID")
    user = "setpriv --reuid mqttd --regid mqttd --clear-groups"
    found = machine.run(f"nsenter -t {process} -m {user} sh -c '{attempt}'", check=False)
    assert answer in found.stderr
    assert bool(found.returncode) == bool(answer)


def test_the_process_has_no_more_rights_than_it_needs(machine: Machine) -> None:
    (process,) = shown(machine, "MainPID")
    status = dict(re.findall(r"(\w+):\t(.*)", machine.run(f"cat /proc/{process}/status").stdout))
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    # CAP_NET_BIND_SERVICE, for ports below 1024.
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        f"{1 << 10:016x}"
    }
    assert machine.run("stat -L -c '%a %U' /var/lib/mqttd /run/mqttd").stdout.split("\n")[:2] == [
        "700 mqttd",
        "700 mqttd",
    ]
    machine.run(f"systemd-analyze security --threshold={EXPOSURE} mqttd.service")


def test_the_control_socket_is_for_root(machine: Machine) -> None:
    assert "version" in machine.run("/opt/mqttd/bin/mqttctl status").stdout
    other = "setpriv --reuid nobody --clear-groups /opt/mqttd/bin/mqttctl status"
    found = machine.run(other, check=False)
    assert "only the user that mqttd runs as, and root, may use it" in found.stderr


def test_a_reload_returns_when_it_is_done(machine: Machine) -> None:
    configure(machine, CONFIGURATION + CONFIGURATION.replace("1883", "443"))
    # A port below 1024, which only CAP_NET_BIND_SERVICE lets it open.
    machine.run("systemctl reload mqttd && mosquitto_pub -p 443 -t a -m b -q 1")
    assert shown(machine, "StatusText") == ["serves tcp:1883, tcp:443"]
    configure(machine, CONFIGURATION + "nonsense = 1\n")
    found = machine.run("systemctl reload mqttd", check=False)
    assert found.returncode
    assert "nonsense: unknown" in log(machine)
    assert shown(machine, "ActiveState", "StatusText") == ["active", "serves tcp:1883, tcp:443"]
    configure(machine, CONFIGURATION)
    machine.run("systemctl reload mqttd")
    assert shown(machine, "StatusText") == ["serves tcp:1883"]


def test_a_stop_takes_leave_of_the_clients_and_keeps_what_is_retained(machine: Machine) -> None:
    machine.run("mosquitto_pub -r -q 1 -t kept -m here")
    machine.run("stdbuf -oL mosquitto_sub -d -V 5 -t x >/tmp/client 2>&1 &")
    machine.wait_for("grep SUBACK /tmp/client")
    machine.run("systemctl stop mqttd")
    machine.wait_for("grep 'Received DISCONNECT (139)' /tmp/client")
    assert shown(machine, "Result", "ActiveState") == ["success", "inactive"]
    machine.run("systemctl start mqttd")
    assert machine.run("mosquitto_sub -t kept -C 1 -W 10").stdout == "here\n"


def test_one_that_hangs_is_started_anew(machine: Machine) -> None:
    restarts, process = shown(machine, "NRestarts", "MainPID")
    assert process != "0"
    machine.run(f"kill -STOP {process}")
    machine.wait_for(f"[ $(systemctl show -P NRestarts mqttd) -gt {restarts} ]", 90)
    machine.wait_for("systemctl is-active mqttd")
    assert (
        "Watchdog timeout (limit 30s)"
        in machine.run("journalctl --sync; journalctl -o cat -u mqttd").stdout
    )
    assert machine.run("mosquitto_sub -t kept -C 1 -W 10").stdout == "here\n"


def test_a_socket_that_is_not_there_is_named(machine: Machine) -> None:
    configure(machine, CONFIGURATION.replace("tcp:1883", "systemd:domain=INET6:name=mqtt"))
    check = "/opt/mqttd/bin/twistd mqttd --config /etc/mqttd/mqttd.toml --check-config"
    machine.run(check)
    assert machine.run("systemctl restart mqttd", check=False).returncode
    assert (
        "systemctl start mqttd.socket"
        in machine.run("journalctl --sync; journalctl -o cat -u mqttd").stdout
    )
    machine.run("systemctl stop mqttd; systemctl reset-failed mqttd")


def test_a_restart_with_the_socket_refuses_nobody(machine: Machine) -> None:
    machine.run(f"set -e; cd /root/source\n{shell_blocks()[1]}")
    # More restarts than systemd takes for sane, in so short a time.
    restart = machine.command("systemctl reset-failed mqttd; systemctl restart mqttd")
    outcomes = json.loads(machine.python(callers.__file__, "1883", "5", *restart))
    print(outcomes)
    assert outcomes["served"] >= 100
    assert outcomes.get("refused", 0) == 0
    # Of each caller the connection that was open when it stopped.
    assert outcomes.get("dropped", 0) <= 5 * callers.CALLERS


def test_the_first_client_starts_what_was_stopped(machine: Machine) -> None:
    machine.run("systemctl stop mqttd && mosquitto_pub -t a -m b -q 1")
    assert shown(machine, "ActiveState") == ["active"]


def test_without_a_user_of_its_own_it_gets_one(machine: Machine) -> None:
    """``DynamicUser=yes``: the data stays, and belongs to whoever it is."""
    machine.run("systemctl stop mqttd.socket mqttd; userdel mqttd")
    machine.run("chmod 0755 /etc/mqttd; chmod 0644 /etc/mqttd/mqttd.toml")
    machine.run("systemctl start mqttd.socket mqttd && mosquitto_pub -t a -m b -q 1")
    assert machine.run("mosquitto_sub -t kept -C 1 -W 10").stdout == "here\n"
    assert machine.run("readlink /var/lib/mqttd").stdout == "private/mqttd\n"


def test_the_image_does_what_it_says(machine: Machine) -> None:
    """The lines of ``Dockerfile``, done one by one: no image is built here."""
    machine.run("systemctl stop mqttd.socket mqttd")
    machine.run("rm -rf /opt/mqttd /etc/mqttd /var/lib/mqttd /var/lib/private/mqttd")
    machine.run("mkdir /opt/bin && ln -s /usr/bin/python3 /opt/bin/python && cp -r /src /image")
    lines = instructions()
    environment = lines["ENV"][0].replace("$PATH", "/usr/bin")
    (user,) = lines["USER"]
    for line in lines["RUN"]:
        machine.run(f"set -e; PATH=/opt/bin:$PATH; {line.replace('/src', '/image')}")
    as_user = f"setpriv --reuid {user} --regid mqttd --clear-groups env {environment}"
    start, look = (
        shlex.join(json.loads(lines[name][0][lines[name][0].index("[") :]))
        for name in ("ENTRYPOINT", "HEALTHCHECK")
    )
    machine.run(f"cd {lines['WORKDIR'][0]}; {as_user} {start} >/tmp/image 2>&1 & echo $! >/tmp/pid")
    machine.wait_for(f"{as_user} {look}")
    machine.run("stdbuf -oL mosquitto_sub -d -V 5 -t x >/tmp/client 2>&1 &")
    machine.wait_for("grep SUBACK /tmp/client")
    machine.run("kill $(cat /tmp/pid)")
    machine.wait_for("grep 'Received DISCONNECT (139)' /tmp/client")
    machine.wait_for("[ ! -e /proc/$(cat /tmp/pid) ]")
    assert "rror" not in machine.run("cat /tmp/image").stdout
    assert machine.run(f"{as_user} {look}", check=False).returncode


def instructions() -> dict[str, list[str]]:
    """Those of ``Dockerfile``: name -> what follows each."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    found: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        found.setdefault(name, []).append(rest)
    return found
