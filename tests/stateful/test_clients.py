"""A short run of the state machines; ``python -m tests.stateful`` is the long one."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.conftest import examples
from tests.stateful.machine import Clients, CrowdedClients, CrowdedKeptClients, KeptClients

SHORT = settings(
    max_examples=examples(0.6),
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)

TestClients = Clients.TestCase
TestClients.settings = SHORT
TestCrowdedClients = CrowdedClients.TestCase
TestCrowdedClients.settings = SHORT
TestKeptClients = KeptClients.TestCase
TestKeptClients.settings = SHORT
TestCrowdedKeptClients = CrowdedKeptClients.TestCase
TestCrowdedKeptClients.settings = SHORT
