"""A page in headless Chromium, and the little web server that it comes from.

``visit`` shows a page and returns what its script reports. It knows no MQTT.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.end_to_end.daemon import PATIENCE

#: What the page calls with its result, which JSON must be able to say.
REPORT = """
<!doctype html><meta charset="utf-8">
<script>
function report(result) {
  fetch("/report", {method: "POST", body: JSON.stringify(result)});
}
window.onerror = (message) => report({error: String(message)});
</script>
"""


class Pages(ThreadingHTTPServer):
    """Serves one page and some scripts, and takes the report."""

    def __init__(self, page: str, scripts: dict[str, Path], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.page = page
        self.scripts = scripts
        self.reports: queue.Queue[Any] = queue.Queue()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer("text/html", (REPORT + self.server.page).encode())
        elif self.path in self.server.scripts:
            self._answer("text/javascript", self.server.scripts[self.path].read_bytes())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.reports.put(json.loads(body))
        self._answer("text/plain", b"")

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def visit(chromium: str, pages: Pages, profile: Path) -> Any:
    """Show the page of *pages*; returns what it reports."""
    server = threading.Thread(target=pages.serve_forever, args=(0.05,))
    server.start()
    command = [
        chromium,
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={profile}",
        pages.origin + "/",
    ]
    if os.geteuid() == 0:
        # Its sandbox refuses root, as whom CI runs; the only page is ours.
        command.insert(1, "--no-sandbox")
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return pages.reports.get(timeout=3 * PATIENCE)
    finally:
        browser.terminate()
        browser.wait(PATIENCE)
        pages.shutdown()
        server.join()
        pages.server_close()
