"""Run variables: values known only at run time, written as ``{{ ds }}`` or ``p.vars["run_date"]``."""

from aiflow_sdk.variables.query import map_query, render_query
from aiflow_sdk.variables.rendering import refuse_secrets, render, render_but_time, run_facts
from aiflow_sdk.variables.template import (
    NAMES,
    TIME_NAMES,
    Reference,
    find_name,
    has_template,
    references,
    replace_templates,
)
from aiflow_sdk.variables.value import canonicalise, has_secret, names_in, secret_name, secrets_in
from aiflow_sdk.variables.variable import Variable, Variables

__all__ = [
    "NAMES",
    "TIME_NAMES",
    "Reference",
    "Variable",
    "Variables",
    "canonicalise",
    "find_name",
    "has_secret",
    "has_template",
    "map_query",
    "names_in",
    "references",
    "refuse_secrets",
    "render",
    "render_but_time",
    "render_query",
    "replace_templates",
    "run_facts",
    "secret_name",
    "secrets_in",
]
