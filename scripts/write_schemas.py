"""Writes the published JSON Schemas of pipeline, plan and run documents into docs/schemas."""

import json
from pathlib import Path

from aiflow_sdk.ir import pipeline_schema
from aiflow_sdk.plan import plan_schema, run_schema

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"

for name, schema in (("pipeline-ir-v1", pipeline_schema()), ("plan-v1", plan_schema()), ("run-v1", run_schema())):
    (FOLDER / f"{name}.json").write_text(json.dumps(schema, indent=2) + "\n")
