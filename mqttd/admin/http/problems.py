"""What goes wrong in a request, as RFC 9457 wants it told.

Handlers raise ``Problem``; the site turns it into the answer. It knows no route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any


class Problem(Exception):
    """A request that cannot be answered as asked."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        errors: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param status: the HTTP status, from 400 to 599.
        :param detail: a sentence for the person: the thing, the place, the remedy.
        :param errors: several things that are wrong, one sentence each.
        """
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = list(self.errors)
        return body


def not_found(what: str, name: str) -> Problem:
    """404 for the *what* called *name*."""
    return Problem(404, f"There is no {what} {name!r}.")
