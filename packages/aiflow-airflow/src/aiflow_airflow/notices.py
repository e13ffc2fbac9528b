"""``notify``: who hears of a task that failed for good, and of a run that missed its deadline.

``mailto:team@company.com`` is sent by Airflow's SMTP connection (``smtp_default``); ``slack:NAME`` and ``webhook:NAME``
are posted to the address that the Airflow connection ``NAME`` holds as its password, because such an address is a
secret; ``https://…`` is posted to as it stands. Slack gets ``{"text": …}``, others the notice's facts as JSON.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import urllib.request
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from aiflow_sdk.errors import ConfigurationError, plural

if TYPE_CHECKING:
    from airflow.sdk import Context

_log = logging.getLogger("aiflow.notify")
_SECONDS = 20.0


def tell_failed(context: Context, *, targets: Iterable[str], pipeline: str, owner: str) -> None:
    """Tell that a task has failed and is not tried again; what cannot be told is logged and fails nothing."""
    dag_run, task = context["dag_run"], context["ti"]
    error = context.get("exception")
    notice = {
        "event": "task-failed",
        "pipeline": pipeline,
        "owner": owner,
        "dag_id": dag_run.dag_id,
        "run_id": dag_run.run_id,
        "partition": dag_run.partition_key,
        "task_id": task.task_id,
        "attempt": task.try_number,
        "error": str(error) if error is not None else "",
        "log": task.log_url,
    }
    title = f"{pipeline} failed" + (f" for {dag_run.partition_key}" if dag_run.partition_key else "")
    text = f"{title}: task {task.task_id}, attempt {task.try_number}\n{notice['error']}\n{notice['log']}"
    _tell(targets, title, text, notice)


async def tell_missed(
    *, targets: Iterable[str], pipeline: str, owner: str, sla_minutes: float, context: Mapping[str, Any], **_: Any
) -> None:
    """Tell that a run has not ended by its deadline."""
    run = context["dag_run"]
    notice = {
        "event": "deadline-missed",
        "pipeline": pipeline,
        "owner": owner,
        "dag_id": run["dag_id"],
        "run_id": run["dag_run_id"],
        "partition": run.get("partition_key"),
        "sla_minutes": sla_minutes,
        "deadline": str(context["deadline"]["deadline_time"]),
    }
    partition = f" for {notice['partition']}" if notice["partition"] else ""
    title = f"{pipeline} is late{partition}"
    text = f"{title}: not done {plural(sla_minutes, 'minute')} after it was due (run {notice['run_id']})"
    _log.warning("%s", text)
    await asyncio.get_running_loop().run_in_executor(None, partial(_tell, targets, title, text, notice))


def _tell(targets: Iterable[str], title: str, text: str, notice: Mapping[str, Any]) -> None:
    for target in targets:
        try:
            _send(target, title, text, notice)
        except Exception as error:  # noqa: BLE001 whatever a server or a connection answers, the others are told
            _log.error("%s could not be told: %s: %s", _shown(target), type(error).__name__, error)
        else:
            _log.info("%s was told: %s", _shown(target), title)


def _send(target: str, title: str, text: str, notice: Mapping[str, Any]) -> None:
    scheme, _, rest = target.partition(":")
    match scheme:
        case "mailto":
            _mail(rest, title, text)
        case "slack":
            _post(_address(rest), {"text": text})
        case "webhook":
            _post(_address(rest), notice)
        case "http" | "https":
            _post(target, notice)
        case _ if "@" in target:
            _mail(target, title, text)
        case _:
            raise ConfigurationError(
                "bad-notify",
                f"'{target}' names nobody who can be told",
                hint="mailto:team@company.com, slack:CONNECTION, webhook:CONNECTION, or https://…",
            )


def _mail(to: str, title: str, text: str) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    with SmtpHook() as hook:
        hook.send_email_smtp(to=to, subject=title, html_content=f"<pre>{html.escape(text)}</pre>")


def _address(connection_id: str) -> str:
    from airflow.sdk import Connection

    address = Connection.get(connection_id).password
    if not address or not address.startswith(("http://", "https://")):
        raise ConfigurationError(
            "bad-notify",
            f"the connection '{connection_id}' holds no address as its password",
            hint="put the webhook's https://… there",
        )
    return str(address)


def _post(address: str, body: Mapping[str, Any]) -> None:
    request = urllib.request.Request(
        address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        answer.read()


def _shown(target: str) -> str:
    """Return the target without what may be a secret: an address's path and query."""
    return target if not target.startswith(("http://", "https://")) else "/".join(target.split("/")[:3])
