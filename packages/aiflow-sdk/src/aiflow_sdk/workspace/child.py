"""The child process that imports a project's own plugins and compiles with them, as its parent sees it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from aiflow_sdk.code import interpreter
from aiflow_sdk.config import Environment, Project
from aiflow_sdk.discovery.children import START_SECONDS, broken_interpreter, import_environment, import_path
from aiflow_sdk.errors import AiflowError, PluginError, Where, plural
from aiflow_sdk.ir import PipelineIR
from aiflow_sdk.plan import Plan, read_plan
from aiflow_sdk.plugins import PluginType


class PluginProcess:
    """One child for any number of pipelines. It ends with this object, and with this process."""

    def __init__(self, project: Project, marked: Sequence[tuple[PluginType, str, str]]) -> None:
        self._project = project
        order_read, order_write = os.pipe()
        answer_read, answer_write = os.pipe()
        try:
            process = subprocess.Popen(
                [interpreter(project), "-P", "-m", "aiflow_sdk.workspace", str(order_read), str(answer_write)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(order_read, answer_write),
                cwd=project.root,
                env=import_environment(project),
                start_new_session=True,
            )
        except OSError as error:
            for descriptor in (order_write, answer_read):
                os.close(descriptor)
            raise broken_interpreter(project, f"cannot be started: {error.strerror}") from error
        finally:
            for descriptor in (order_read, answer_write):
                os.close(descriptor)
        self._orders = Connection(order_write, readable=False)
        self._answers = Connection(answer_read, writable=False)
        self._end = weakref.finalize(self, _end, process, self._orders, self._answers)
        self._orders.send_bytes(pickle.dumps((import_path(project), os.environ.get("PYTHONPATH"))))
        self._orders.send_bytes(pickle.dumps((project, list(marked))))
        if self._answer(START_SECONDS) is None:
            self._end()
            raise broken_interpreter(project, "cannot import aiflow")

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return bool(self._end.alive)

    def compile(
        self, ir: PipelineIR, environment: Environment, locations: Mapping[str, Where], plugins: list[str]
    ) -> Plan:
        """Return the pipeline's plan, compiled there; ``plugins`` are the modules that it needs.

        Raises as :func:`aiflow_sdk.compiler.compile_pipeline`, and ``PluginError`` (``broken-plugin``) where a module
        cannot be imported, ends the process, or takes longer than ``discovery_timeout_seconds``.
        """
        seconds = self._project.discovery_timeout_seconds
        with suppress(BrokenPipeError):
            self._orders.send_bytes(pickle.dumps((ir.to_json(), environment, dict(locations), plugins, seconds)))
        answer = self._answer(seconds)
        if answer is None:
            self._end()
            raise PluginError(
                "broken-plugin",
                f"pipeline '{ir.id}' could not be compiled with the project's own plugins: their process "
                f"{'ended' if self._has_ended else 'had no answer within ' + plural(seconds, 'second')}",
                where=Where(f"{plugins[0].replace('.', '/')}.py"),
                hint="correct the module; a plugin's module is imported wherever a pipeline that names it is compiled",
            )
        if "error" in answer:
            raise AiflowError.from_dict(answer["error"])
        return read_plan(answer["plan"])

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """Return the next answer, or None where there is none in time or ever."""
        self._has_ended = False
        try:
            if not self._answers.poll(seconds):
                return None
            answer: dict[str, Any] = json.loads(self._answers.recv_bytes())
        except (EOFError, OSError):
            self._has_ended = True
            return None
        return answer


def _end(process: subprocess.Popen[bytes], *connections: Connection) -> None:
    for connection in connections:
        connection.close()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
