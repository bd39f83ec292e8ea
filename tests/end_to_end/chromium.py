"""Headless Chromium, driven by its own protocol over two pipes.

``Chromium`` opens a page and runs expressions in it; what the page asks for, says on
its console and fails with is collected. No driver and no library stands between.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.end_to_end.daemon import PATIENCE

FLAGS = (
    "--headless",
    # Its sandbox refuses root, as whom CI runs; the only pages are ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Chromium:
    """A browser with one page; ``stop`` must be called in the end."""

    def __init__(self, program: str, profile: Path, size: tuple[int, int] = (1400, 900)) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()

        def arrange() -> None:
            # The protocol's own numbers; what stands there may be one of the others.
            spare = [os.dup(os.dup(fd)) for fd in (commands, answers)]
            high = [os.dup2(fd, 100 + index) for index, fd in enumerate(spare)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=arrange,
            close_fds=False,
        )
        os.close(commands)
        os.close(answers)
        self._number = 0
        self._results: queue.Queue[dict[str, Any]] = queue.Queue()
        #: What the page has asked the network for.
        self.urls: list[str] = []
        #: Bytes of the largest answer, its head included.
        self.largest = 0
        #: What went wrong in the page: exceptions, and errors on its console.
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.call(f"{domain}.enable")
        self.resize(*size)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; returns its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        data = memoryview(json.dumps(command).encode() + b"\0")
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            answer = self._results.get(timeout=PATIENCE)
            if answer["id"] == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until the expression is true for JavaScript."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.call(
                "Runtime.evaluate", expression=f"Boolean({expression})", returnByValue=True
            )
            # While a page is loaded, there is nothing to look at yet.
            if "exceptionDetails" not in answer and answer["result"]["value"]:
                return
            time.sleep(0.02)
        text = self.run("document.body.innerText")
        raise AssertionError(f"never true: {expression}\n{text}\n{self.errors}")

    def wait_for(self, text: str) -> None:
        """Until *text* can be read on the page."""
        self.wait(f"document.body.innerText.includes({json.dumps(text)})")

    def type(self, selector: str, text: str) -> None:
        """Put *text* into a field, as by its keys."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.run(f"document.querySelector({json.dumps(selector)}).select?.()")
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def click_on(self, selector: str, text: str) -> None:
        """Click on the first of those that *selector* finds whose text begins with *text*."""
        found = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find((each) => each.innerText.startsWith({json.dumps(text)}))"
        )
        self.wait(found)
        self.run(f"{found}.click()")

    def choose(self, selector: str, value: str) -> None:
        """Choose one of a list."""
        self.click(selector)
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.value = {json.dumps(value)}")
        self.run(f"{found}.dispatchEvent(new Event('change'))")

    def press(self, key: str, code: int, text: str = "", modifiers: int = 0) -> None:
        """Press a key, by its name and its Windows code, as the protocol wants both."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                modifiers=modifiers,
                text=text if kind == "keyDown" else "",
            )

    def picture(self, path: Path) -> None:
        """What can be seen now, as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def stop(self) -> None:
        os.close(self._commands)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        with open(self._answers, "rb") as answers:
            rest = b""
            while data := answers.read1(1 << 16):
                *messages, rest = (rest + data).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        match message.get("method"):
            case None:
                self._results.put(message)
            case "Network.requestWillBeSent":
                self.urls.append(message["params"]["request"]["url"])
            case "Network.loadingFinished":
                self.largest = max(self.largest, message["params"]["encodedDataLength"])
            case "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}")
