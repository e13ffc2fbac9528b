"""``aiflow login``: signs in to the metadata service, and keeps the token in a file of the user's own."""

from __future__ import annotations

import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiflow_sdk.cli.command_line import Invocation, subcommand
from aiflow_sdk.cli.console import Console, format_next
from aiflow_sdk.cli.service import require_address
from aiflow_sdk.errors import AccessError, ConfigurationError, ReceiverError
from aiflow_sdk.web import is_open_road

if TYPE_CHECKING:
    from aiflow_sdk.service.provider import Provider, SignIn, Tokens

_LONGEST = 20_000


@subcommand(
    "login",
    """aiflow login --env prod
aiflow login --env prod --no-browser
aiflow login --env prod --token-file token.txt
pass show aiflow | aiflow login --env prod --token-file -
aiflow login --env prod --forget""",
)
@click.option("--no-browser", is_flag=True, help="Open no browser here: sign in with one of another device.")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help="The port of this machine that the browser comes back to, where the provider allows but one (default: any).",
)
@click.option(
    "--wait",
    "wait_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=1, max=3600),
    default=300,
    show_default=True,
    help="How long you may take to sign in.",
)
@click.option("--with-token", is_flag=True, help="Ask for a token instead.")
@click.option("--token-file", metavar="FILE", help="Where a token stands that is to be kept; - is standard input.")
@click.option("--forget", is_flag=True, help="Remove the token that is kept for the service.")
def command(
    invocation: Invocation,
    no_browser: bool,
    port: int | None,
    wait_seconds: float,
    with_token: bool,
    token_file: str | None,
    forget: bool,
) -> None:
    """Sign in to the environment's metadata service, and keep the token that says who you are.

    Where the service signs people in with a provider, a browser opens; where there is none, a code is shown to type on
    another device. The token is renewed while the provider allows it. Else, and with --with-token or --token-file, a
    token is kept that you have: a machine token (`aiflow token create`), or one of the provider.

    What you ask the service for is asked with it; what pipelines do (tasks, deployments), with the environment's
    service_token. Where one is absent the other stands for it. The file is its owner's alone. To another machine it
    goes over https alone, unless service_over_http allows it.
    """
    from aiflow_sdk.service import Service
    from aiflow_sdk.service.client import open_road
    from aiflow_sdk.service.logins import forget_login, keep_login, keep_signed_login

    address = require_address(invocation)
    console = invocation.console
    if forget:
        if token_file is not None or with_token:
            raise click.UsageError("--forget and a token do not go together")
        was_there = forget_login(address)
        if invocation.as_json:
            console.print_json({"service": address, "forgotten": was_there})
        else:
            kept = "the token is forgotten here; it is good until it is over, or revoked (aiflow token revoke)"
            console.print(kept if was_there else f"no token is kept for {address}")
        return
    if is_open_road(address) and not invocation.environment.service_over_http:
        raise open_road(address, invocation.project.place_of("environments", invocation.environment.name))
    sign_in = None if with_token or token_file is not None else _ask_sign_in(invocation)
    if sign_in is None:
        signed, token = None, _read_token(token_file, address)
    else:
        try:
            signed = _sign_in(sign_in, address, no_browser=no_browser, port=port, wait_seconds=wait_seconds)
        except (AccessError, ReceiverError) as error:
            # Whose sign-in settings name the provider.
            error.at(invocation.project.place_of("environments", invocation.environment.name, "service"))
            raise
        token = signed[1].token
    me = Service(invocation.environment, token=token).get("whoami") or {}
    if me.get("mode") != "signed-in":
        raise _nobody_signs_in(address)
    file = keep_signed_login(address, *signed) if signed else keep_login(address, token)
    until = datetime.fromtimestamp(signed[1].expires_at, UTC) if signed else None
    if invocation.as_json:
        told = {"service": address, "name": me["name"], "teams": me["teams"], "file": str(file)}
        if signed and until:
            told |= {"expires_at": until.isoformat(), "is_renewed": signed[1].refresh_token is not None}
        console.print_json(told)
        return
    said = f"logged in to {address} as {console.style(me['name'], 'bold')}: {_roles(me)}"
    if signed and until:
        then = "then it is renewed by itself" if signed[1].refresh_token else "then log in again"
        console.print(f"good until {until.astimezone():%Y-%m-%d %H:%M}, {then}")
    for line in format_next(console, said, [invocation.next_command("team"), invocation.next_command("grant")]):
        console.print(line)


def _nobody_signs_in(address: str) -> ConfigurationError:
    said = f"nobody signs in to the service at {address}: whoever reaches it may do everything"
    return ConfigurationError("bad-usage", said, hint="use it without a token")


def _ask_sign_in(invocation: Invocation) -> SignIn | None:
    """Return how people sign in with a provider; None where the service takes tokens alone, or nobody signs in.

    Raises ``ReceiverError``.
    """
    from aiflow_sdk.service import Service
    from aiflow_sdk.service.provider import SignIn

    told = Service(invocation.environment, token="").get("sign-in") or {}
    if told.get("mode") == "local":
        raise _nobody_signs_in(require_address(invocation))
    if told.get("mode") != "oidc":
        return None
    client = told.get("command_line_client_id", told.get("client_id"))
    issuer, scopes = told.get("issuer"), told.get("scopes")
    if not (isinstance(issuer, str) and isinstance(client, str) and isinstance(scopes, list)):
        raise ReceiverError(
            "service-answer",
            f"the metadata service at {invocation.environment.service} does not say how people sign in",
            hint="see that the setting service is its address; a token can be kept as it is: --with-token",
        )
    return SignIn(issuer, client, tuple(map(str, scopes)))


def _sign_in(
    sign_in: SignIn, address: str, *, no_browser: bool, port: int | None, wait_seconds: float
) -> tuple[Provider, Tokens]:
    """Let somebody sign in at the provider. Raises ``AccessError``, ``ReceiverError``, ``ConfigurationError``."""
    from aiflow_sdk.service.flows import BrowserFlow, sign_in_on_device
    from aiflow_sdk.service.provider import find_provider

    aside = Console(sys.stderr)
    provider = find_provider(sign_in)
    opens = not no_browser and _has_browser()

    def show(page: str, code: str) -> None:
        aside.print(f"to log in to {address}, open this page on any device and type the code {code}:\n  {page}")

    if not opens and port is None and provider.device_address is not None:
        return provider, sign_in_on_device(provider, sign_in, show, wait_seconds)
    with BrowserFlow(provider, sign_in, port=port or 0) as flow:
        aside.print(f"to log in to {address}, sign in on this page, in a browser of this machine:\n  {flow.page}")
        if opens:
            import webbrowser

            # Beside: one that stays in the foreground would wait for us, who wait for it.
            threading.Thread(target=webbrowser.open, args=(flow.page,), daemon=True).start()
        return provider, flow.wait(wait_seconds)


def _has_browser() -> bool:
    """Tell whether a browser can be opened that does not take the terminal: on a desktop, or one that BROWSER names."""
    if os.environ.get("BROWSER") or sys.platform == "darwin":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


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
