"""The files of the dashboard, for browsers: pages that use the API as any program does.

``control`` hangs ``Dashboard`` into each site. The files are the same for everybody and
say nothing of the broker, so nobody is asked who he is; what they show, the API gives
them, and only to who may see it.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from attrs import frozen
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from mqttd.admin.http.problems import Problem
from mqttd.admin.http.site import send, send_problem

#: Where it stands on a site.
NAME = b"dashboard"

#: Scripts and styles of this origin only; none in the page, and no text that becomes one.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, and asked for each time: another version of mqttd has other files.
    "Cache-Control": "no-cache",
}

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@frozen
class _File:
    content: bytes
    media_type: str
    tag: bytes


class Dashboard(Resource):
    """Everything below ``/dashboard/``, from memory: no path leads to the disk."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files: dict[str, _File] = {}

    def render(self, request: Request) -> Any:
        if not self._files:
            self._files = dict(_read(files("mqttd.admin").joinpath("dashboard")))
        try:
            self._answer(request)
        except Problem as problem:
            send_problem(request, problem)
        return NOT_DONE_YET

    def _answer(self, request: Request) -> None:
        if request.method not in (b"GET", b"HEAD"):
            raise Problem(405, "Here is GET only.", headers={"Allow": "GET, HEAD"})
        path = b"/".join(request.postpath or ()).decode("utf-8", "replace")
        if not path and not request.path.endswith(b"/"):
            send(request, 308, None, "", Location="/dashboard/")
            return
        file = self._files.get(path or "index.html")
        if file is None:
            raise Problem(404, "There is nothing at this path.")
        if request.setETag(file.tag) is http.CACHED:
            send(request, 304, None, "", **HEADERS)
        else:
            send(request, 200, file.content, file.media_type, **HEADERS)


class ToDashboard(Resource):
    """The root of a site: a person who comes there wants the dashboard."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def render(self, request: Request) -> Any:
        send(request, 307, None, "", Location="/dashboard/")
        return NOT_DONE_YET


def _read(folder: Traversable, prefix: str = "") -> Any:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _read(each, f"{prefix}{each.name}/")
            continue
        media_type = TYPES.get("." + each.name.rpartition(".")[2])
        if media_type is not None:
            content = each.read_bytes()
            tag = f'"{sha256(content).hexdigest()[:20]}"'.encode()
            yield prefix + each.name, _File(content, media_type, tag)
