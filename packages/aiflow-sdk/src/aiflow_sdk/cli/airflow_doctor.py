"""``aiflow doctor --airflow``: what a live Airflow lacks for what aiflow deploys, and what to do about it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from aiflow_sdk.cli.command_line import Invocation
from aiflow_sdk.cli.commands.doctor import Finding
from aiflow_sdk.errors import AiflowError

if TYPE_CHECKING:
    from aiflow_sdk.bundles.airflow import Setting
    from aiflow_sdk.orchestrator import AirflowClient

_COMPONENTS = {"metadatabase": "database", "scheduler": "scheduler", "dag_processor": "dag-processor"}
_PLUGIN = "aiflow"
_SHORT = 12
_SHOWN = 5
_PYTHON_SECONDS = 120.0
_ASK = """
import importlib.util, json, sys
from airflow.configuration import conf
asked = json.loads(sys.argv[1])
found = {f"{s}.{n}": conf.get(s, n, fallback=None) for s, n in asked}
found["kubernetes"] = "there" if getattr(importlib.util.find_spec("kubernetes"), "origin", None) else "missing"
print("\\n" + json.dumps(found))
"""
"""What Airflow's own interpreter is asked: ``airflow config get-value`` for many at once, and for a package."""
_SHIM = re.compile(r"aiflow_[0-9a-f]{2}\.py")


def examine_airflow(invocation: Invocation, python: str | None) -> Iterator[Finding]:
    """Yield a finding for each thing that was looked at. Raises ``AiflowError`` where nothing can be looked at."""
    from aiflow_sdk.orchestrator import AirflowClient

    client = AirflowClient.open(invocation.environment)
    yield Finding("ok", "airflow", f"{client.check_version()} at {client.address}")
    yield from _login(client, invocation)
    yield from _health(client)
    for what, examine in (("plugin", _plugin), ("import errors", _import_errors), ("pools", _pools)):
        yield from _careful(what, client, examine)
    yield from _careful("pipelines", client, lambda one: _pipelines(one, invocation))
    yield from _settings(client, python)


def _careful(what: str, client: AirflowClient, examine: Any) -> Iterator[Finding]:
    """Yield what can be seen; what this login may not see is no fault of Airflow's."""
    try:
        yield from examine(client)
    except AiflowError as error:
        state = "warn" if error.code == "airflow-forbidden" else "fail"
        yield Finding(state, what, error.message, error.hint or "")  # type: ignore[arg-type]  # one of the two


def _login(client: AirflowClient, invocation: Invocation) -> Iterator[Finding]:
    client.get("dags", limit=1)  # raises where the login will not do
    environment = invocation.environment
    who = "a token" if environment.airflow_token else f"the user '{environment.airflow_user}'"
    if not environment.airflow_token and not environment.airflow_user:
        is_here = urlsplit(client.address).hostname in ("127.0.0.1", "localhost", "::1")
        if is_here:
            yield Finding("ok", "login", "none is needed, on this machine alone")
        else:
            yield Finding("fail", "login", "none is needed: whoever reaches it may do all", "set an auth manager")
    elif client.address.startswith("http://") and urlsplit(client.address).hostname not in ("127.0.0.1", "localhost"):
        yield Finding("warn", "login", f"{who}, which travels unencrypted", "use an address https://…")
    else:
        yield Finding("ok", "login", who)


def _health(client: AirflowClient) -> Iterator[Finding]:
    told = client.get("monitor/health")
    for key, name in {**_COMPONENTS, "triggerer": "triggerer"}.items():
        state = (told.get(key) or {}).get("status")
        beat = (told.get(key) or {}).get(f"latest_{key}_heartbeat")
        if state == "healthy":
            yield Finding("ok", name, "healthy")
            continue
        said = f"{state or 'not there'}" + (f", last heard of at {beat[:19]}" if beat else "")
        lost = {
            "triggerer": "tasks that wait for their data would wait for ever",
            "scheduler": "no run would start",
            "dag_processor": "no release would be seen",
            "metadatabase": "nothing works without it",
        }[key]
        yield Finding("fail", name, said, f"start it (airflow {name}): {lost}" if key != "metadatabase" else lost)


def _plugin(client: AirflowClient) -> Iterator[Finding]:
    found = {plugin["name"]: plugin for plugin in client.pages("plugins", "plugins")}
    if _PLUGIN in found:
        source = str(found[_PLUGIN].get("source", "")).partition(":")[0]
        yield Finding("ok", "plugin", source or _PLUGIN)
    else:
        todo = "install aiflow-airflow in the environment of every process of Airflow, and start them again"
        yield Finding("fail", "plugin", "Airflow has not loaded aiflow's", todo)
    for error in client.get("plugins/importErrors").get("import_errors", []):
        is_ours = "aiflow" in str(error.get("source"))
        yield Finding("fail" if is_ours else "warn", "plugin", f"{error.get('source')}: {error.get('error')}"[:300])


def _import_errors(client: AirflowClient) -> Iterator[Finding]:
    errors = list(client.pages("importErrors", "import_errors"))
    for error in errors[:_SHOWN]:
        text = str(error.get("stack_trace", "")).strip().splitlines()
        place = f"{error.get('bundle_name')}/{error.get('filename')}"
        # The file that aiflow writes does nothing but call aiflow.
        is_ours = _is_shim(error.get("filename")) and "aiflow_airflow" in "\n".join(text)
        yield Finding("fail" if is_ours else "warn", "import error", f"{place}: {text[-1] if text else '?'}"[:300])
    if len(errors) > _SHOWN:
        yield Finding("warn", "import error", f"{len(errors) - _SHOWN:,} more")
    if not errors:
        yield Finding("ok", "import errors", "none")


def _pools(client: AirflowClient) -> Iterator[Finding]:
    for pool in client.pages("pools", "pools"):
        slots, is_taken = pool.get("slots", 0), pool.get("open_slots", 0)
        said = f"{pool['name']}: {'unlimited' if slots < 0 else slots}, {pool.get('occupied_slots', 0)} taken"
        if slots == 0:
            yield Finding("fail", "pool", said, "give it slots: no task of it can run")
        elif is_taken == 0 and pool.get("queued_slots", 0):
            yield Finding("warn", "pool", f"{said}, {pool['queued_slots']} wait", "give it more slots if that lasts")
        else:
            yield Finding("ok", "pool", said)


def _pipelines(client: AirflowClient, invocation: Invocation) -> Iterator[Finding]:
    from aiflow_sdk.bundles.airflow import BROKEN_TAG

    ours = _ours(client)
    release, store = _newest_release(invocation)
    if store.state != "ok":
        yield store
    if not ours:
        address = invocation.environment.bundles_root.address.uri
        todo = (
            f"see whether [dag_processor] dag_bundle_config_list names {address}, and the dag-processor's log"
            if release
            else f"aiflow deploy --env {client.environment}"
        )
        yield Finding("fail" if release else "warn", "bundle", "Airflow has no DAG of aiflow's", todo)
        return
    paused = sum(bool(dag.get("is_paused")) for dag in ours)
    yield Finding("ok", "pipelines", f"{len(ours):,} of aiflow's, {paused:,} of them paused")
    versions = {str(dag.get("bundle_version")) for dag in ours}
    if release and release not in versions:
        todo = "if that lasts longer than a minute, see the dag-processor's log"
        yield Finding("fail", "bundle", f"the newest release, {release[:_SHORT]}, is not in Airflow yet", todo)
    elif release:
        yield Finding("ok", "bundle", f"the newest release is there: {release[:_SHORT]}")
    for dag in client.pages("dags", "dags", tags=BROKEN_TAG, exclude_stale="true"):
        todo = "deploy it again, with the version of aiflow that Airflow has"
        yield Finding("fail", "pipeline", f"{dag['dag_id']}: its plan cannot be used", todo)


def _ours(client: AirflowClient) -> list[dict[str, Any]]:
    """Return the DAGs of bundles of ours: of each bundle whose files are called so, one DAG is asked what it is."""
    from aiflow_sdk.bundles.airflow import read_about

    bundles: dict[str, list[dict[str, Any]]] = {}
    for dag in client.pages("dags", "dags", exclude_stale="true"):
        if _is_shim(dag.get("relative_fileloc")):
            bundles.setdefault(str(dag.get("bundle_name")), []).append(dag)
    return [
        dag
        for dags in bundles.values()
        if read_about(client.get(f"dags/{quote(dags[0]['dag_id'], safe='')}/details")) is not None
        for dag in dags
    ]


def _is_shim(file: object) -> bool:
    return _SHIM.fullmatch(str(file or "").rpartition("/")[2]) is not None


def _newest_release(invocation: Invocation) -> tuple[str | None, Finding]:
    from aiflow_sdk.bundles import BundleStore
    from aiflow_sdk.config import resolve_secrets

    try:
        invocation.configure("leniently")  # how the bundle store is opened may be handed out, and nothing before it
        environment = invocation.environment
        root = environment.bundles_root
        storage = resolve_secrets(dict(root.storage), environment)
        release = BundleStore.open(root.address.uri, environment.name, storage=storage).newest()
    except AiflowError as error:
        return None, Finding("warn", "releases", f"cannot be read from here: {error.message}", error.hint or "")
    return (release.version if release else None), Finding("ok", "releases", "read")


def _settings(client: AirflowClient, python: str | None) -> Iterator[Finding]:
    from aiflow_sdk.bundles.airflow import REQUIRED

    try:
        values = ask_python(python) if python else _ask_api(client)
    except AiflowError as error:
        values = None
        yield Finding("fail", "settings", error.message, error.hint or "")
    if values is None:
        todo = " ".join(f"{one.variable}={one.value}" for one in REQUIRED)
        yield Finding(
            "warn",
            "settings",
            "Airflow does not show them ([api] expose_config), or not to this login; "
            "on its machine --airflow-python PATH does",
            f"see that these hold: {todo}",
        )
        return
    for one in REQUIRED:
        yield _judge(one, values.get(f"{one.section}.{one.name}"))
    if "kubernetes" in str(values.get("core.executor")).lower() and values.get("kubernetes") == "missing":
        said = "Kubernetes's client is not installed: what resources.python(request_cpu=…) asks for is ignored"
        yield Finding("fail", "kubernetes", said, "pip install apache-airflow-providers-cncf-kubernetes")


def _judge(one: Setting, value: str | None) -> Finding:
    said = f"[{one.section}] {one.name} = {value}"
    if value is not None and one.accepts(str(value)):
        return Finding("ok", "setting", said)
    return Finding(
        "fail" if one.is_vital else "warn", "setting", f"{said}: {one.otherwise}", f"{one.variable}={one.value}"
    )


def _ask_api(client: AirflowClient) -> dict[str, str] | None:
    """Return the settings that the REST API shows, None where it shows none."""
    try:
        answer = client.call("GET", "config")
    except AiflowError as error:
        if error.code == "airflow-forbidden":
            return None
        raise
    if not answer.is_ok or not isinstance(answer.data, dict):
        return None
    return {
        f"{section['name']}.{option['key']}": _text(option["value"])
        for section in answer.data.get("sections", [])
        for option in section.get("options", [])
    }


def _text(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def ask_python(python: str) -> dict[str, str]:
    """Return the settings that an Airflow's interpreter has, and under ``kubernetes`` whether it has that client.

    Raises ``OrchestratorError`` (``airflow-python``).
    """
    from aiflow_sdk.bundles.airflow import REQUIRED
    from aiflow_sdk.errors import OrchestratorError

    asked = json.dumps([*([one.section, one.name] for one in REQUIRED), ["core", "executor"]])
    hint = "name the interpreter of Airflow's environment, and run this with Airflow's own variables (AIRFLOW_HOME)"
    try:
        done = subprocess.run(
            [python, "-c", _ASK, asked], capture_output=True, text=True, timeout=_PYTHON_SECONDS, check=False
        )
        values: dict[str, str] = json.loads(done.stdout.strip().rpartition("\n")[2] or "null")
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise OrchestratorError("airflow-python", f"{python} cannot be asked: {error}", hint=hint) from error
    if not isinstance(values, dict):
        said = done.stderr.strip().splitlines()
        raise OrchestratorError("airflow-python", f"{python} says: {said[-1] if said else 'nothing'}", hint=hint)
    return values
