"""A Sphinx extension: the reference, written from the code when the pages are built.

``.. from-code:: NAME`` puts the text of the function of that name in ``MAKERS`` into
a page. A maker takes nothing and returns reStructuredText; it knows the package, and
nothing of Sphinx beyond its markup. One that finds nothing, or a name that no page
uses, fails the build, so that nothing is left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.from_code import command_lines, figures, http_api, interfaces, reasons, rooms, settings

log = logging.getLogger(__name__)

MAKERS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings.tables,
    "plugin-settings": settings.plugins,
    "extras": settings.extras,
    "twistd": command_lines.twistd,
    "mqttctl": command_lines.mqttctl,
    "http-api": http_api.operations,
    "prometheus": figures.prometheus,
    "sys-topics": figures.sys_topics,
    "reasons": reasons.reasons,
    "hooks": interfaces.hooks,
    "interfaces": interfaces.others,
    "rooms": rooms.rooms,
    "compiled": rooms.compiled,
}


class FromCode(SphinxDirective):
    """``.. from-code:: NAME``"""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in MAKERS:
            raise self.error(f"from-code knows {', '.join(MAKERS)}, not {name}")
        lines = list(MAKERS[name]())
        if not any(lines):
            raise self.error(f"from-code found nothing to say about {name}")
        _used(self.env).add(name)
        # The page depends on code that Sphinx does not watch.
        self.env.note_reread()
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _used(env: Any) -> set[str]:
    if not hasattr(env, "from_code_used"):
        env.from_code_used = set()
    used: set[str] = env.from_code_used
    return used


def _all_used(app: Sphinx, env: Any) -> None:
    for name in MAKERS.keys() - _used(env):
        log.warning("no page has the directive from-code:: %s", name)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("from-code", FromCode)
    app.add_object_type(
        "operation", "operation", objname="HTTP operation", indextemplate="pair: %s; HTTP API"
    )
    app.add_object_type("hook", "hook", objname="hook", indextemplate="pair: %s; hook")
    app.add_object_type("metric", "metric", objname="metric", indextemplate="pair: %s; metric")
    app.connect("env-check-consistency", lambda app, env: _all_used(app, env))
    # Which names were used is kept with the rest of the environment.
    return {"parallel_read_safe": False, "env_version": 1}
