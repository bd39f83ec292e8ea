"""The reasons that figures are counted by, from ``broker.reasons``."""

from __future__ import annotations

from collections.abc import Iterator

from docs.from_code.markup import heading, literal, table
from mqttd.broker.reasons import CLOSED, DROPPED, REFUSED


def reasons() -> Iterator[str]:
    """Every reason and its meaning, by what it is the reason of."""
    for title, known in (
        ("Connections that ended", CLOSED),
        ("Connections that were refused", REFUSED),
        ("Messages that were dropped", DROPPED),
    ):
        yield from heading(title, 2)
        yield from table(((literal(name), known[name]) for name in sorted(known)), "Reason", "When")
