"""Builds what setup.cfg describes; with MQTTD_COMPILE=1 the hot path as C, by mypyc.

The modules below are compiled as they stand, and stay readable as the fallback:
without the variable nothing is compiled, and the same code runs interpreted.
"""

import os
import sys
from configparser import ConfigParser

from setuptools import setup

#: Found by profile: what a chunk of input runs through, and what inherits from that. In
#: these modules a generator expression becomes a list, types are checked at run time, and
#: what calls one function from another in the same file cannot be replaced. No interpreted
#: class inherits from theirs, nor theirs from one; so a class of theirs is not decorated.
#: A tuple comes out of an attribute as another one: ``is`` tells nothing. ``bytes`` are not
#: sliced from behind their end on, nor backwards. An instance that may be None is true
#: unless its class has ``__bool__``; ``__len__`` alone is not asked.
COMPILED = [
    "mqttd/wire/bodies.py",
    "mqttd/wire/parser.py",
    "mqttd/wire/properties.py",
    "mqttd/wire/serializer.py",
    "mqttd/wire/strings.py",
    "mqttd/wire/topics.py",
    "mqttd/broker/access.py",
    "mqttd/broker/broker.py",
    "mqttd/broker/connection.py",
    "mqttd/broker/delivery.py",
    "mqttd/broker/durable_session.py",
    "mqttd/broker/fast_lane.py",
    "mqttd/broker/handshake.py",
    "mqttd/broker/inprocess.py",
    "mqttd/broker/message.py",
    "mqttd/broker/metrics.py",
    "mqttd/broker/owed.py",
    "mqttd/broker/paging.py",
    "mqttd/broker/queue.py",
    "mqttd/broker/receipts.py",
    "mqttd/broker/receiving.py",
    "mqttd/broker/retained.py",
    "mqttd/broker/router.py",
    "mqttd/broker/session.py",
    "mqttd/broker/sessions.py",
    "mqttd/broker/shared.py",
    "mqttd/broker/subscribing.py",
    "mqttd/broker/subscription.py",
    "mqttd/broker/thinning.py",
    "mqttd/broker/timers.py",
    "mqttd/broker/topic_tree.py",
    "mqttd/broker/wills.py",
    "mqttd/net/factory.py",
    "mqttd/net/flight.py",
    "mqttd/net/hub.py",
    "mqttd/net/outbound.py",
    "mqttd/net/protocol.py",
    "mqttd/net/timed.py",
    "mqttd/testing/faults.py",
]

#: Types are checked elsewhere; here mypy only has to infer them.
OPTIONS = [
    "--ignore-missing-imports",
    "--follow-imports=silent",
    "--no-warn-unused-ignores",
    "--no-warn-return-any",
]
#: mypy-zope brings the mypy that it fits.
COMPILER = "mypy-zope >= 1.0.17"


def needed() -> list[str]:
    """What compiling needs: with the compiler all that the package needs when it runs.

    Types are inferred from that: of a class made by attrs it is attrs that tells them.
    """
    description = ConfigParser()
    description.read("setup.cfg")
    return [COMPILER, *description["options"]["install_requires"].split("\n")[1:]]


def setup_compiled() -> None:
    """Build with extensions; an error, not a slow build, when that cannot be."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        if "egg_info" not in sys.argv:
            raise
        # pip asks first what the build needs, and then comes back.
        setup(setup_requires=needed())
        return
    setup(ext_modules=mypycify([*OPTIONS, *COMPILED], opt_level="3", group_name="mqttd"))


if os.environ.get("MQTTD_COMPILE") == "1":
    setup_compiled()
else:
    setup()
