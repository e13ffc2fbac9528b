"""``aiflow audit``: who did what, and whether what is recorded is still what was recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from aiflow_sdk.cli.command_line import COMMANDS, CommandGroup, Exit, Invocation
from aiflow_sdk.cli.console import format_table, printable
from aiflow_sdk.cli.service import require_service
from aiflow_sdk.cli.times import LIMIT, time_of
from aiflow_sdk.errors import ConfigurationError, DataError, plural

if TYPE_CHECKING:
    from aiflow_sdk.audit import AuditRow, Verdict

_PAGE = 500
_VERIFY_SECONDS = 600.0
_SHOWN_FINDINGS = 20


def _filter_options(function: Any) -> Any:
    options = [
        click.option("--actor", metavar="NAME", help="Who did it."),
        click.option("--action", metavar="ACTION", help="What: token.made, or token for all that was done to tokens."),
        click.option("--object", "object_name", metavar="NAME", help="To what."),
        click.option("--team", metavar="TEAM", help="Whose it was."),
        click.option("--in-environment", "among", metavar="NAME", help="In which environment."),
        click.option("--result", type=click.Choice(["done", "denied", "failed"]), help="How it ended."),
        click.option("--since", type=time_of, metavar="TIME", help="From then on: 2026-11-20T03:00:00Z."),
        click.option("--until", type=time_of, metavar="TIME", help="Before then."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group(
    "audit",
    cls=CommandGroup,
    short_help=COMMANDS["audit"],
    epilog="""aiflow audit
aiflow audit list --action token --since 2026-11-01T00:00:00Z
aiflow audit verify
aiflow audit export audit.jsonl""",
)
@click.pass_context
def command(context: click.Context) -> None:
    """List the last things that were done, as the environment's metadata service recorded them.

    `aiflow audit list` is the same, and searches.
    """
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Invocation), {}, 20)


@command.add(
    "list",
    """aiflow audit list --actor ana
aiflow audit list --object orders --since 2026-11-20T00:00:00Z --json""",
)
@_filter_options
@click.option("--limit", default=20, show_default=True, metavar="N", type=LIMIT, help="How many.")
def list_command(invocation: Invocation, limit: int, **wanted: str | None) -> None:
    """Search what was done, the newest first."""
    _list(invocation, wanted, limit)


@command.add(
    "export",
    """aiflow audit export audit.jsonl
aiflow audit export --team shop - | jq .actor""",
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_filter_options
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def export_command(invocation: Invocation, file: str, force: bool, **wanted: str | None) -> None:
    """Write what was done to FILE (- is standard output) as JSON lines, the oldest first.

    Each line has its row's hash, so `aiflow audit verify --file FILE` can check it anywhere, without the service.
    """
    from aiflow_sdk.audit import export_line

    rows = _rows(invocation, wanted)
    if file == "-":
        for row in rows:
            sys.stdout.write(export_line(row) + "\n")
        return
    path = Path(file)
    if path.exists() and not force:
        raise click.UsageError(f"{file} is there already; add --force to replace it")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("x", encoding="utf-8") as written:
            count = _write(written, (export_line(row) for row in rows))
        beside.replace(path)  # it has its name once it is whole
    except BaseException as error:  # a Ctrl-C too: half an export is none; it goes on up
        with suppress(OSError):
            beside.unlink()
        if not isinstance(error, OSError):
            raise
        raise ConfigurationError(
            "bad-usage", f"{file} cannot be written: {error.strerror}", hint="name another file"
        ) from error
    if invocation.as_json:
        invocation.console.print_json({"file": file, "rows": count})
    else:
        invocation.console.print(f"{plural(count, 'row')} in {file}   next: aiflow audit verify --file {file}")


@command.add(
    "verify",
    """aiflow audit verify
aiflow audit verify --file audit.jsonl --checkpoints s3://company-audit --key key-0123456789abcdef.pem""",
)
@click.option(
    "--file", metavar="FILE", type=click.Path(dir_okay=False), help="An export; without it, the service's own rows."
)
@click.option("--checkpoints", metavar="ADDRESS", help="Where the signed checkpoints are, to be read from here.")
@click.option(
    "--key", "keys", multiple=True, metavar="FILE", help="The public key that is believed, kept apart; may be repeated."
)
@click.option("--partial", is_flag=True, help="The export was filtered: rows that are not there say nothing.")
def verify_command(
    invocation: Invocation, file: str | None, checkpoints: str | None, keys: tuple[str, ...], partial: bool
) -> None:
    """Look whether any row of the audit was changed, removed, put elsewhere or made up; exit code 1 if so.

    Without options the service checks its own rows by its own checkpoints. Who does not trust it names --checkpoints
    and --key: then rows are fetched and checked here. With --file nobody is asked at all.
    """
    from aiflow_sdk.audit import open_checkpoints, verify_chain

    if keys and checkpoints is None:
        raise ConfigurationError("bad-usage", "--key is for checkpoints", hint="add --checkpoints ADDRESS")
    if file is None and checkpoints is None and not partial:
        verdict = require_service(invocation, timeout_seconds=_VERIFY_SECONDS).get("audit/verify") or {}
        _tell(invocation, verdict)
        return
    read = open_checkpoints(checkpoints, trusted=map(Path, keys)) if checkpoints is not None else None
    rows = _rows(invocation, {}) if file is None else _lines(Path(file))
    found: Verdict = verify_chain(rows, read.found if read else (), is_partial=partial)
    if read:
        found.compare(read)
    _tell(invocation, found.to_dict())


def _list(invocation: Invocation, wanted: dict[str, str | None], limit: int) -> None:
    service = require_service(invocation)
    pages = service.pages("audit", limit=min(limit, _PAGE), **_query(wanted))
    items = list(islice(pages, limit))
    console = invocation.console
    if invocation.as_json:
        console.print_json(items)
        return
    if not items:
        console.print("nothing was recorded that fits")
        return
    rows = [
        {
            "row": one["seq"],
            "when": one["at"][:19] + "Z",
            "who": printable(one["actor"]),
            "did": one["action"],
            "to": printable(f"{one['object_kind']} {one['object_name']}"),
            "team": one["team"],
            "environment": one["environment"],
            "result": one["result"],
            "from": one["origin"],
        }
        for one in items
    ]
    used = [name for name in rows[0] if any(row[name] for row in rows)]
    for line in format_table(console, rows, used):
        console.print(line)


def _query(wanted: dict[str, str | None]) -> dict[str, str | None]:
    return {("environment" if name == "among" else name): value for name, value in wanted.items()}


def _rows(invocation: Invocation, wanted: dict[str, str | None]) -> Iterator[AuditRow]:
    from aiflow_sdk.audit import AuditRow, canonical_details

    service = require_service(invocation)
    for one in service.pages("audit", limit=_PAGE, oldest_first="true", **_query(wanted)):
        hashes = bytes.fromhex(one["previous"]), bytes.fromhex(one["hash"])
        told = [one[name] for name in AuditRow._fields[:12]]
        yield AuditRow._make([*told, canonical_details(one["details"]), *hashes])


def _lines(file: Path) -> Iterator[AuditRow]:
    from aiflow_sdk.audit import read_line

    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as opened:
            for number, line in enumerate(opened, 1):
                row = read_line(line.rstrip("\n"))
                if row is None:
                    raise DataError(
                        "audit-line",
                        f"line {number} of {file} is not as aiflow wrote it",
                        hint="it was changed since, or is no export: export it again and compare",
                    )
                yield row
    except OSError as error:
        raise ConfigurationError(
            "bad-usage", f"{file} cannot be read: {error}", hint="name a file of aiflow audit export"
        ) from error


def _write(written: TextIO, lines: Iterator[str]) -> int:
    count = 0
    for line in lines:
        written.write(line + "\n")
        count += 1
    return count


def _tell(invocation: Invocation, verdict: dict[str, Any]) -> None:
    console = invocation.console
    if invocation.as_json:
        console.print_json(verdict)
    else:
        for one in verdict["findings"][:_SHOWN_FINDINGS]:
            console.print(f"{console.style(one['kind'], 'red')}  {_place(one)}{one['says']}")
        if len(verdict["findings"]) > _SHOWN_FINDINGS or verdict["is_cut"]:
            console.print("and more: --json lists them")
        rows = f"{plural(verdict['rows'], 'row')} up to {verdict['last_seq']}" if verdict["rows"] else "no rows"
        if verdict["is_sound"]:
            console.print(f"{console.style('sound', 'green')}  {rows}; {_signed(verdict)}")
        else:
            console.print(f"{rows}; {_signed(verdict)}")
    if not verdict["is_sound"]:
        raise Exit(1)


def _place(finding: dict[str, Any]) -> str:
    first, last = finding["first"], finding["last"]
    return "" if first is None or first == last else f"rows {first} to {last}: "


def _signed(verdict: dict[str, Any]) -> str:
    if not verdict["checkpoints"]:
        return "no checkpoint vouches for them, so a chain that was written anew would not be seen"
    agree = "agrees" if verdict["checkpoints"] == 1 else "agree"
    return f"{plural(verdict['checkpoints'], 'checkpoint')} {agree}, the last with row {verdict['signed_seq']}"
