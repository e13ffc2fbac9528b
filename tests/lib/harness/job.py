"""Calls a function of a Python file: ``python -m harness.job FILE FUNCTION ARGUMENTS``, arguments as a JSON list.

A module, since pyspark takes a program given by ``-c`` for its own tests.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def call(file: str, function: str, arguments: Sequence[Any]) -> None:
    """Import the file, unless that has been done, and call the function."""
    name = f"job_{Path(file).stem}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    getattr(module, function)(*arguments)


if __name__ == "__main__":
    call(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
