"""The route table: what may be asked, by whom, and in which form.

A ``Route`` says all about one operation, so that the check of a request and the
OpenAPI document come from the same words. ``Table`` finds the route of a request.
It knows nothing of sockets and of Twisted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from typing import Any

from attrs import define, field, frozen
from fastjsonschema import JsonSchemaValueException
from fastjsonschema import compile as compile_schema

from mqttd.admin.http.problems import Problem

#: A JSON Schema, as far as drafts 7 and 2020-12 agree.
Schema = Mapping[str, Any]


class Role(IntEnum):
    """What somebody may do; each may also do what stands above it."""

    #: Ask whether it is well, without saying who asks.
    ANYONE = 0
    #: Look.
    VIEWER = 1
    #: Act on clients, messages, listeners and bridges.
    OPERATOR = 2
    #: Change the configuration, and who may do what.
    ADMINISTRATOR = 3


@frozen
class Parameter:
    """A query parameter; a *schema* of type string, integer or boolean."""

    name: str
    schema: Schema
    description: str
    default: Any = None
    required: bool = False


#: What ``paging.page`` needs of a route's query.
PAGING = (
    Parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": 1000},
        "How many to return at most.",
        100,
    ),
    Parameter(
        "after",
        {"type": "string", "maxLength": 4096},
        "Begin behind this one: the `next` of the page before.",
    ),
)


@frozen
class Route:
    """One operation of the API."""

    method: str
    #: Below ``/api/v1``: "/clients/{client_id}". A part in braces takes one
    #: segment, percent-encoded, of any text but the empty one.
    path: str
    role: Role
    #: Takes a ``Call``; see ``mqttd.admin.http``.
    handler: Callable[[Any], Any]
    #: A few words for the OpenAPI document.
    summary: str
    tag: str
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None
    answer: Schema | None = None
    #: Status of a good answer that has a body; without one it is 204.
    status: int = 200
    #: Statuses besides the usual ones (400, 401, 403) that it may answer with.
    problems: tuple[int, ...] = ()
    #: What may be asked: values by the names of variables and query parameters, and "body".
    example: Mapping[str, Any] = field(factory=dict)
    #: Media type of the answer; the handler writes to ``call.request`` if it streams.
    produces: str = "application/json"
    #: A POST that changes nothing stays out of the audit log.
    changes: bool | None = None

    @property
    def audited(self) -> bool:
        return self.method != "GET" if self.changes is None else self.changes

    @property
    def segments(self) -> list[str]:
        return self.path.strip("/").split("/")

    @property
    def variables(self) -> list[str]:
        return [part[1:-1] for part in self.segments if part.startswith("{")]


@define
class Match:
    """A route, and what the path says of its variables."""

    entry: Entry
    variables: dict[str, str]


class Entry:
    """A route, and its checks."""

    def __init__(self, route: Route) -> None:
        self.route = route

    # When first asked for: to compile them all takes longer than all else at a start.

    @cached_property
    def _check_body(self) -> Callable[[Any], Any] | None:
        return None if self.route.body is None else _checker(self.route.body)

    @cached_property
    def _checks(self) -> dict[str, Callable[[Any], Any]]:
        return {each.name: _checker(each.schema) for each in self.route.query}

    def read_query(self, given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The values of the query parameters.

        :raise Problem: 400 when one is unknown, twice there, or out of range.
        """
        values = {each.name: each.default for each in self.route.query}
        known = {each.name: each for each in self.route.query}
        errors = [
            f"query parameter {each.name!r} must be given"
            for each in self.route.query
            if each.required and each.name not in given
        ]
        for name, texts in given.items():
            if name not in known:
                errors.append(f"query parameter {name!r} is unknown here")
            elif len(texts) != 1:
                errors.append(f"query parameter {name!r} may be given once")
            else:
                try:
                    value = _convert(texts[0], known[name].schema["type"])
                    self._checks[name](value)
                    values[name] = value
                except (ValueError, JsonSchemaValueException) as error:
                    errors.append(f"query parameter {name!r}: {_reason(error)}")
        if errors:
            raise Problem(400, "The query cannot be used.", errors=errors)
        return values

    def check_body(self, body: Any) -> Any:
        """*body* as the handler may rely on it.

        :raise Problem: 422 when it does not fit the schema.
        """
        if self._check_body is None:
            return body
        try:
            return self._check_body(body)
        except JsonSchemaValueException as error:
            raise Problem(422, f"The body does not fit: {_reason(error)}.") from None


@define
class Table:
    """All routes, found by method and path."""

    entries: list[Entry] = field(factory=list)
    _by_length: dict[int, list[Entry]] = field(factory=dict)

    @classmethod
    def of(cls, routes: Iterable[Route]) -> Table:
        table = cls()
        for route in routes:
            entry = Entry(route)
            table.entries.append(entry)
            table._by_length.setdefault(len(route.segments), []).append(entry)
        for entries in table._by_length.values():
            # "/clients/count" before "/clients/{client_id}".
            entries.sort(key=lambda entry: [part.startswith("{") for part in entry.route.segments])
        return table

    def find(self, method: str, segments: list[str]) -> Match:
        """The route for *segments*, which are decoded.

        :raise Problem: 404, or 405 when the path is there and the method is not.
        """
        allowed = set()
        for entry in self._by_length.get(len(segments), ()):
            variables = _fit(entry.route.segments, segments)
            if variables is None:
                continue
            if entry.route.method == method:
                return Match(entry, variables)
            allowed.add(entry.route.method)
        if not allowed:
            raise Problem(404, "There is nothing at this path; /api/v1/openapi.json lists it all.")
        headers = {"Allow": ", ".join(sorted(allowed))}
        raise Problem(405, f"Here is {headers['Allow']} only.", headers=headers)


def _fit(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    variables = {}
    for wanted, given in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            if not given:
                return None
            variables[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return variables


def _convert(text: str, kind: str) -> Any:
    if kind == "integer":
        if not text.removeprefix("-").isdecimal() or len(text) > 20:
            raise ValueError("must be a whole number")
        return int(text)
    if kind == "boolean":
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    return text


def _checker(schema: Schema) -> Callable[[Any], Any]:
    checker: Callable[[Any], Any] = compile_schema(
        {"$schema": "http://json-schema.org/draft-07/schema#", **schema}, use_default=False
    )
    return checker


def _reason(error: Exception) -> str:
    if isinstance(error, JsonSchemaValueException):
        return str(error.message).replace("data.", "", 1).replace("data ", "it ", 1)
    return str(error)
