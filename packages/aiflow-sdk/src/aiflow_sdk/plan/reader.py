"""Reads stored plans, also those of older versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from aiflow_sdk.ir import Upgrade, invalid_document, upgrade_document
from aiflow_sdk.plan.model import PLAN_VERSION, Plan

UPGRADES: Mapping[int, Upgrade] = {}
"""For each older version, how its document becomes one of the next version."""


def read_plan(document: str | bytes | Mapping[str, Any]) -> Plan:
    """Return the plan that ``document`` (JSON text or its data) describes, whichever version wrote it.

    Raises ``DocumentError`` when it is no such document or a newer aiflow wrote it.
    """
    data = upgrade_document(document, "plan_version", PLAN_VERSION, UPGRADES, "plan")
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise invalid_document("plan", error) from error
