"""``aiflow login``: keeps a token for the metadata service in a file of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import format_next
from aiflow_sdk.cli.service import require_address
from aiflow_sdk.errors import ConfigurationError
from aiflow_sdk.web import is_open_road

_LONGEST = 20_000


@subcommand(
    "login",
    """aiflow login --env prod
aiflow login --env prod --token-file token.txt
pass show aiflow | aiflow login --env prod --token-file -
aiflow login --env prod --forget""",
)
@click.option("--token-file", metavar="FILE", help="Where the token stands; - is standard input. Else it is asked for.")
@click.option("--forget", is_flag=True, help="Remove the token that is kept for the service.")
def command(invocation: Invocation, token_file: str | None, forget: bool) -> None:
    """Keep a token for the environment's metadata service, after asking it who that is.

    It is a machine token (`aiflow token create`), or one of the company's sign-in provider. What you ask the
    service for is asked with it; what pipelines do (tasks, deployments), with the environment's service_token. Where
    one is absent the other stands for it. The file is its owner's alone. To another machine it goes over https alone,
    unless the setting service_over_http allows otherwise.
    """
    from aiflow_sdk.service import Service
    from aiflow_sdk.service.logins import forget_login, keep_login

    address = require_address(invocation)
    console = invocation.console
    if forget:
        if token_file is not None:
            raise click.UsageError("--forget and --token-file do not go together")
        was_there = forget_login(address)
        if invocation.as_json:
            console.print_json({"service": address, "forgotten": was_there})
        else:
            kept = "the token is forgotten here; it is good until it is over, or revoked (aiflow token revoke)"
            console.print(kept if was_there else f"no token is kept for {address}")
        return
    if is_open_road(address) and not invocation.environment.service_over_http:
        raise ConfigurationError(
            "bad-setting",
            f"the token would go to {address} in plain text, which whoever is on the way can read",
            where=invocation.project.place_of("environments", invocation.environment.name),
            hint='write service = "https://…", or service_over_http = true where the network itself is trusted',
        )
    token = _read_token(token_file, address)
    me = Service(invocation.environment, token=token).get("whoami") or {}
    if me.get("mode") != "signed-in":
        raise ConfigurationError(
            "bad-usage",
            f"nobody signs in to the service at {address}: whoever reaches it may do everything",
            hint="use it without a token",
        )
    file = keep_login(address, token)
    if invocation.as_json:
        console.print_json({"service": address, "name": me["name"], "teams": me["teams"], "file": str(file)})
        return
    said = f"logged in to {address} as {console.style(me['name'], 'bold')}: {_roles(me)}"
    for line in format_next(console, said, [invocation.next_command("team"), invocation.next_command("grant")]):
        console.print(line)


def _read_token(token_file: str | None, address: str) -> str:
    if token_file is None and not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask for the token; give it with --token-file FILE, or - for stdin"
        )
    try:
        if token_file is None:
            text = str(click.prompt(f"Token for {address}", hide_input=True, err=True))
        elif token_file == "-":
            text = sys.stdin.read(_LONGEST + 1)
        else:
            text = Path(token_file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{token_file} cannot be read: {type(error).__name__}") from None
    token = text.strip()
    if not token or len(token) > _LONGEST or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError("this is no token; it is one word, as aiflow token create shows it")
    return token


def _roles(me: dict[str, Any]) -> str:
    if me.get("everywhere"):
        return f"{me['everywhere']} in every team"
    return ", ".join(f"{one['role']} in {one['name']}" for one in me["teams"])
