"""Where a file's tables lie and how their store is opened: its constants, and the functions that hang on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.config import Environment, LakeRoot
from aiflow_sdk.eject.layout import Code, Group, keyword, led, lines, one_line, quoted
from aiflow_sdk.eject.parts import Part, part, read_part
from aiflow_sdk.eject.values import Values
from aiflow_sdk.plan import Plan
from aiflow_sdk.stores import driver_options, server_variables
from aiflow_sdk.variables import has_secret

CONSTANTS = (
    *("DAG_ID", "PIPELINE_ID", "ZONE", "PROJECT", "LAKE", "STORAGE", "READ_ALSO", "STAGING", "SPARK", "FILE_SUFFIXES"),
)
_LOOK_UP = "store()"
"""In place of ``STORAGE`` where it holds secrets, which are looked up when a task runs; it is no longer than that."""


@dataclass(frozen=True)
class Setting:
    """The environment that a pipeline is ejected for."""

    plan: Plan
    environment: Environment
    values: Values
    root: str
    """Leads from the file's folder to the project's."""

    def constants(self, used: Collection[str]) -> list[str]:
        """Return the assignments of the constants that are used."""
        plan = self.plan
        found: dict[str, Code] = {
            "DAG_ID": quoted(dag_id_of(plan.project, plan.pipeline_id)),
            "PIPELINE_ID": quoted(plan.pipeline_id),
            "ZONE": f"ZoneInfo({quoted(plan.timezone)})",
            "PROJECT": "Path(__file__).parent" + (f" / {quoted(self.root)}" if self.root else ""),
            "LAKE": self._place(self.environment.own_root, plan.environment.lake),
            "STORAGE": self._options(self.environment.own_root),
            "READ_ALSO": self._read_also(),
            "STAGING": _folder(plan.environment.staging),
            "SPARK": quoted(plan.environment.spark or ""),
            "FILE_SUFFIXES": '(".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson")',
        }
        if self._has_secrets:
            del found["STORAGE"]
        wanted = set(used)
        if any("PROJECT" in one_line(found[name]) for name in wanted & {"LAKE", "STAGING", "READ_ALSO"}):
            wanted.add("PROJECT")
        return [line for name, code in found.items() if name in wanted for line in lines(keyword(name, code, " = "))]

    def parts(self) -> dict[str, Part]:
        """Return the functions that are others in this environment."""
        found: dict[str, Part] = {}
        if self.plan.environment.reads:
            found["open_table"] = part("open_table_of_several")
        if self.plan.environment.spark is not None:
            found["spark_session"] = part("spark_session_of_server")
        elif not self.environment.own_root.address.is_folder:
            found["spark_session"] = self._spark_session()
        if self._has_secrets:
            options = self._options(self.environment.own_root)
            text = [
                "def store() -> dict[str, str]:",
                '    """Return how the lake\'s store is opened."""',
                *lines(led("return ", options), 4),
            ]
            found["store"] = read_part("\n".join(text))
        return found

    def named(self, text: str) -> str:
        """Return text of the file with the store's options as they are called here."""
        return text.replace("STORAGE", _LOOK_UP) if self._has_secrets else text

    def _spark_session(self) -> Part:
        own, plain = self.environment.own_root, part("spark_session")
        variables = self.values.code(server_variables(own.address, own.storage))
        first = "    server = SparkConnectServer"
        above = lines(Group("os.environ.update(", (variables,), ")"), 4)
        text = plain.text.replace(first, "\n".join([*above, first]))
        return read_part("\n".join(["import os", *plain.imports, "", text]))

    def _read_also(self) -> Code:
        stated = [one.lake for one in self.plan.environment.reads]
        pairs = zip(self.environment.read_roots, stated, strict=True)
        items = tuple(Group("(", (self._place(root, text), self._options(root)), ")") for root, text in pairs)
        return Group("[", items, "]")

    def _place(self, root: LakeRoot, stated: str) -> str:
        return _folder(stated) if root.address.is_folder else quoted(root.address.uri)

    def _options(self, root: LakeRoot) -> Code:
        options = driver_options(root.address, root.storage)
        return self.values.code(options) if options else "None"

    @property
    def _has_secrets(self) -> bool:
        return _holds_secret(self.environment.own_root.storage)


def _holds_secret(storage: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) and has_secret(value) for value in storage.values())


def _folder(text: str) -> str:
    """Return an address, or a folder, which is relative to the project's."""
    return quoted(text) if "://" in text or text.startswith("/") else f"PROJECT / {quoted(text)}"
