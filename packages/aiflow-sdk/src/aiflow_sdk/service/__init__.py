"""The metadata service as its clients see it: asked and told over HTTP, with a token, its word on grants kept.

Importing this package is quick: its names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiflow_sdk.face import load_on_first_use

if TYPE_CHECKING:
    from aiflow_sdk.service.client import Service
    from aiflow_sdk.service.configuration import configure, configure_leniently, configure_offline
    from aiflow_sdk.service.grants import Grants, Touch, ask_grants, is_guarded, no_grant, touch_of

_HOMES = {
    "Grants": "aiflow_sdk.service.grants",
    "Service": "aiflow_sdk.service.client",
    "Touch": "aiflow_sdk.service.grants",
    "configure": "aiflow_sdk.service.configuration",
    "configure_leniently": "aiflow_sdk.service.configuration",
    "configure_offline": "aiflow_sdk.service.configuration",
    "ask_grants": "aiflow_sdk.service.grants",
    "is_guarded": "aiflow_sdk.service.grants",
    "no_grant": "aiflow_sdk.service.grants",
    "touch_of": "aiflow_sdk.service.grants",
}

__all__ = [
    "Grants",
    "Service",
    "Touch",
    "ask_grants",
    "configure",
    "configure_leniently",
    "configure_offline",
    "is_guarded",
    "no_grant",
    "touch_of",
]


__getattr__ = load_on_first_use(__name__, _HOMES)
