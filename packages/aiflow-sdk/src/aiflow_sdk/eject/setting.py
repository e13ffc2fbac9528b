"""Where a file's tables lie and how their store is opened: its constants, and the functions that hang on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiflow_sdk.bundles import dag_id_of
from aiflow_sdk.config import Environment, LakeRoot
from aiflow_sdk.eject.layout import Code, Group, keyword, led, lines, one_line, quoted
from aiflow_sdk.eject.parts import MADE, Part, known_parts, part, read_part
from aiflow_sdk.eject.values import Values
from aiflow_sdk.plan import Plan
from aiflow_sdk.stores import driver_options, server_variables
from aiflow_sdk.variables import has_secret

CONSTANTS = (
    *(
        "DAG_ID",
        "AIFLOW_ID",
        "PIPELINE_ID",
        "ZONE",
        "PROJECT",
        "LAKE",
        "STORAGE",
        "READ_ALSO",
        "STAGING",
        "SPARK",
        "FILE_SUFFIXES",
    ),
)
_LOOK_UPS = {"STORAGE": "store()", "READ_ALSO": "read_also()"}
"""In place of constants that hold secrets, which are looked up when a task runs."""


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
            "AIFLOW_ID": quoted(f"aiflow:{plan.environment.name}/{plan.project}/{plan.pipeline_id}"),
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
        for name in known_parts() - MADE:
            one = found[name] if name in found else part(name)
            if names := one.names & self._looked_up.keys():
                # By the text of the part alone: what a user wrote may hold the same word.
                text = re.sub(rf"\b({'|'.join(sorted(names))})\b", lambda met: _LOOK_UPS[met[1]], one.text)
                found[name] = read_part("\n".join([*one.imports, "", text]))
        for constant, (head, said, options) in self._looked_up.items():
            text = "\n".join([f"def {head}:", f'    """{said}"""', *lines(led("return ", options), 4)])
            found[_LOOK_UPS[constant].removesuffix("()")] = read_part(text)
        return found

    @property
    def storage(self) -> str:
        """The expression by which a task has the options of the lake's store."""
        return _LOOK_UPS["STORAGE"] if "STORAGE" in self._looked_up else "STORAGE"

    @cached_property
    def _looked_up(self) -> dict[str, tuple[str, str, Code]]:
        """The constants that hold secrets: the head of the function in their place, what it says, what it returns."""
        found: dict[str, tuple[str, str, Code]] = {}
        own, others = self.environment.own_root, self.environment.read_roots
        if _holds_secret(own.storage):
            said = "Return how the lake's store is opened."
            found["STORAGE"] = "store() -> dict[str, str]", said, self._options(own)
        if any(_holds_secret(root.storage) for root in others):
            said = "Return the lakes that are read too, and how their stores are opened."
            found["READ_ALSO"] = "read_also() -> list[tuple]", said, self._read_also()
        return found

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


def _holds_secret(storage: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) and has_secret(value) for value in storage.values())


def _folder(text: str) -> str:
    """Return an address, or a folder, which is relative to the project's."""
    return quoted(text) if "://" in text or text.startswith("/") else f"PROJECT / {quoted(text)}"
