"""The plan: what will run, as frozen data, and the names that its runs are known by."""

from aiflow_sdk.plan.making import Making, Verdict, making_of, why_run
from aiflow_sdk.plan.meaning import NODE_ASIDE, OPTIONS_ASIDE, meaning_of, meaning_of_node
from aiflow_sdk.plan.model import (
    PLAN_VERSION,
    Plan,
    PlanEnvironment,
    PlanItem,
    PlanLake,
    PlanListener,
    PlanNode,
    PlanTask,
    plan_schema,
)
from aiflow_sdk.plan.reader import read_plan
from aiflow_sdk.plan.request import make_run, new_run_id
from aiflow_sdk.plan.result import NodeFacts, TaskResult
from aiflow_sdk.plan.run import RUN_VERSION, Cause, JobHandle, JobState, Run, Token, read_run, run_schema

__all__ = [
    "NODE_ASIDE",
    "OPTIONS_ASIDE",
    "PLAN_VERSION",
    "RUN_VERSION",
    "Cause",
    "JobHandle",
    "JobState",
    "Making",
    "NodeFacts",
    "Plan",
    "PlanEnvironment",
    "PlanItem",
    "PlanLake",
    "PlanListener",
    "PlanNode",
    "PlanTask",
    "Run",
    "TaskResult",
    "Token",
    "Verdict",
    "make_run",
    "making_of",
    "meaning_of",
    "meaning_of_node",
    "new_run_id",
    "plan_schema",
    "read_plan",
    "read_run",
    "run_schema",
    "why_run",
]
