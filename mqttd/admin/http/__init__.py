"""The control API: HTTP for operators, for ``mqttctl`` and for programs.

``HTTPControl`` serves it; the service starts it with the listeners and stops it when
the clients are gone. What can be asked is a table: each module of ``routes`` has a tuple
``ROUTES`` of ``Route`` entries and is named in ``routes.MODULES``. A handler gets
a ``Call``, with everything checked by the entry's schemas, and returns what JSON
can say, None, a ``Reply``, or a Deferred or coroutine of these; what is wrong it
raises as a ``Problem``. Nothing else is needed to add one: the OpenAPI document,
the roles and the audit log follow from the table.

It sees the daemon as ``interfaces.IDaemon``, and neither packets nor sockets of
MQTT.
"""

from __future__ import annotations

from mqttd.admin.http.call import Call, Identity, Reply
from mqttd.admin.http.control import ControlError, HTTPControl
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import Parameter, Role, Route

__all__ = [
    "Call",
    "ControlError",
    "HTTPControl",
    "Identity",
    "Parameter",
    "Problem",
    "Reply",
    "Role",
    "Route",
]
