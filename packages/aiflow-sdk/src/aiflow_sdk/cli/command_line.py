"""The command ``aiflow``: its sub-commands load when they are used, so that ``--help`` costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from aiflow_sdk.cli.console import Console
from aiflow_sdk.cli.diagnostics import exit_code, print_errors
from aiflow_sdk.errors import AiflowError, ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from aiflow_sdk.config import Environment, Project

COMMANDS = {
    "init": "Make a new project that runs at once.",
    "check": "Look for every mistake, and run nothing.",
    "compile": "Write the plans of all pipelines as JSON.",
    "deploy": "Publish the project for Airflow, list releases, roll back.",
    "history": "List the deployed versions of a pipeline, and what changed.",
    "diff": "Show how two versions of a pipeline differ.",
    "show": "Show pipelines, a graph, its tables and a sample of rows.",
    "run": "Run a pipeline for one partition.",
    "backfill": "Run a pipeline for each partition of a range of dates.",
    "trigger": "Start a run of a deployed pipeline in Airflow.",
    "pause": "Let a pipeline start no more runs in Airflow.",
    "unpause": "Let a pipeline start runs in Airflow.",
    "status": "Show which partitions of a table are made, stale or absent.",
    "repair": "Make again what is stale or absent of a table, and what follows.",
    "lineage": "Show what a table or column is made from, and who would be hurt by a change.",
    "runs": "List past runs, the newest first.",
    "logs": "Show what the code of a run printed.",
    "sync": "Send the events of past runs that nobody has heard yet.",
    "sample": "Make inputs for a test from real tables.",
    "eject": "Write a pipeline as plain Airflow code.",
    "plugins": "List sources, sinks, engines, clusters and listeners.",
    "env": "List the environments, compare their tables, remove one.",
    "audit": "Search what was done, and look whether the record was tampered with.",
    "cost": "Show what runs used, and what that cost.",
    "login": "Keep a token for the metadata service, for you alone.",
    "token": "List, make and revoke tokens of the metadata service.",
    "grant": "List, give and take back what other teams may read or write.",
    "claim": "Say which project, namespace or table is whose.",
    "connection": "List, set and remove connections that the metadata service keeps.",
    "variable": "List, set and remove variables that the metadata service keeps.",
    "team": "List and make teams, and say who has which role in them.",
    "serve": "Run the metadata service: runs, lineage and versions, over HTTP.",
    "doctor": "Say what works on this machine, and what to do where it does not.",
}
"""Every command and its one line; each stands in a module of its name in :mod:`aiflow_sdk.cli.commands`."""

_INTERRUPTED = 130


class Exit(Exception):  # noqa: N818 it is no error
    """Ends the command with an exit code, everything having been said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Invocation:
    """What every command is told: the folder, the environment's name, and whether data is wanted instead of words."""

    typed: Sequence[str] = ()
    """All that stands behind the command's name."""
    folder: Path = Path()
    environment_name: str | None = None
    as_json: bool = False
    _console: Console | None = None
    _project: Project | None = None
    _is_configured: bool = False

    @property
    def console(self) -> Console:
        """Where the command writes."""
        if self._console is None:
            self._console = Console(as_json=self.as_json)
        return self._console

    @property
    def project(self) -> Project:
        """The project of the folder. Raises ``ConfigurationError`` for a wrong ``aiflow.toml``."""
        if self._project is None:
            from aiflow_sdk.config import load_project

            self._project = load_project(self.folder)
        return self._project

    @property
    def root(self) -> Path:
        """The project's folder, also where its ``aiflow.toml`` cannot be read."""
        if self._project is not None:
            return self._project.root
        folder = self.folder.absolute()
        return next((one for one in (folder, *folder.parents) if (one / "aiflow.toml").is_file()), folder)

    @property
    def environment(self) -> Environment:
        """The environment that is meant. Raises ``UnknownNameError``."""
        return self.project.environment(self.environment_name)

    def configure(
        self,
        how: Literal["asking", "leniently", "offline"] = "asking",
        *,
        names: Iterable[str] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """From now on the project has what the metadata service hands out too, where ``aiflow.toml`` says so.

        Once a command. ``leniently`` goes on, however old the copy, where the service is silent; ``offline`` asks
        nobody. ``names``: for these environments instead of the one that is meant; ``tell`` hears of copies that stand
        for the service, instead of standard error. Raises as :func:`aiflow_sdk.service.configure`.
        """
        wanted = [self.environment_name] if names is None else list(names)
        wanted = [name for name in wanted if self.project.asking(name)]
        if self._is_configured or not wanted:
            return
        from aiflow_sdk.service import configure, configure_leniently, configure_offline

        ways = {"asking": configure, "leniently": configure_leniently, "offline": configure_offline}
        aside = Console(sys.stderr)
        for name in wanted:
            self._project = ways[how](self.project, name, tell or (lambda note: aside.print(f"note: {note}")))
        self._is_configured = True

    def next_command(self, *words: str) -> str:
        """Return a command to type next, with the options that lead back to this project and environment."""
        import shlex

        options = ["-C", str(self.folder)] if self.folder != Path() else []
        options += ["--env", self.environment_name] if self.environment_name else []
        return shlex.join(["aiflow", *options, *words])


def _set_folder(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        _invocation(context).folder = Path(value)


def _set_environment(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        _invocation(context).environment_name = value


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        _invocation(context).as_json = True


def _invocation(context: click.Context) -> Invocation:
    return context.ensure_object(Invocation)


def _shared_options() -> list[click.Parameter]:
    """Return the options that every command takes, before or after its name."""
    return [
        click.Option(
            ["-C", "folder"],
            metavar="DIR",
            expose_value=False,
            callback=_set_folder,
            help="The project's folder (default: this one, or the nearest above with aiflow.toml).",
        ),
        click.Option(
            ["--env", "environment"],
            metavar="NAME",
            expose_value=False,
            callback=_set_environment,
            help="The environment (default: what aiflow.toml says, else dev).",
        ),
        click.Option(
            ["--json", "as_json"], is_flag=True, expose_value=False, callback=_set_json, help="Data instead of words."
        ),
    ]


class Command(click.Command):
    """A sub-command: knows the shared options, and suggests an option that was nearly typed."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.extend(_shared_options())

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed, not filled into a paragraph."""
        _write_examples(self.epilog, formatter)


def _write_examples(epilog: str | None, formatter: click.HelpFormatter) -> None:
    if epilog:
        with formatter.section("Examples"):
            formatter.write_dl([(line, "") for line in epilog.strip().splitlines()], col_max=100)


class CommandGroup(click.Group):
    """A sub-command with sub-commands of its own; without one it does what most people want."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"invoke_without_command": True, **settings})
        self.params.extend(_shared_options())

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed, not filled into a paragraph."""
        _write_examples(self.epilog, formatter)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed, or suggest the nearest."""
        name = arguments[0]
        if name not in self.commands and not name.startswith("-"):
            hint = did_you_mean(name, self.commands) or f"one of: {', '.join(self.commands)}"
            raise click.UsageError(f"unknown command '{name}'; {hint}", context)
        return super().resolve_command(context, arguments)

    def add(self, name: str, examples: str) -> Callable[[Callable[..., Any]], Command]:
        """Return the decorator that makes a function a sub-command; its first argument is the :class:`Invocation`."""

        def decorate(function: Callable[..., Any]) -> Command:
            told = click.make_pass_decorator(Invocation, ensure=True)(function)
            made: Command = click.command(name, cls=Command, epilog=examples)(told)
            self.add_command(made)
            return made

        return decorate


class Commands(click.Group):
    """The sub-commands by name, each imported when it is asked for."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.extend(_shared_options())

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in COMMANDS:
            return None
        found: click.Command = import_module(f"aiflow_sdk.cli.commands.{name}").command
        return found

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed, or suggest the nearest."""
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = did_you_mean(name, COMMANDS) or "see aiflow --help"
            raise click.UsageError(f"unknown command '{name}'; {hint}", context)
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def subcommand(name: str, examples: str) -> Callable[[Callable[..., Any]], Command]:
    """Return the decorator that makes a function a sub-command; its first argument is the :class:`Invocation`."""

    def decorate(function: Callable[..., Any]) -> Command:
        told = click.make_pass_decorator(Invocation, ensure=True)(function)
        return click.command(name, cls=Command, short_help=COMMANDS[name], epilog=examples)(told)

    return decorate


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from aiflow_sdk import __version__

        if "--json" in _invocation(context).typed:
            Console(as_json=True).print_json({"version": __version__})
        else:
            click.echo(f"aiflow {__version__}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, subcommand_metavar="COMMAND …")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def aiflow() -> None:
    """Data pipelines written as Python, run on a lake.

    Begin with `aiflow init my_project`; every command has a --help with examples.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 it failed, 2 used wrongly, 130 stopped by Ctrl-C."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    invocation = Invocation(typed)
    try:
        result = aiflow.main(typed, prog_name="aiflow", standalone_mode=False, obj=invocation)
        return result if isinstance(result, int) else 0
    except Exit as end:
        return end.code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        return 2
    except click.ClickException as error:
        wrong = _usage_error(error)
        return _complain(invocation, wrong, "--json" in typed, usage=error)
    except AiflowError as error:
        return _complain(invocation, error, "--json" in typed)
    except (click.Abort, KeyboardInterrupt):
        Console(sys.stderr).print("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Click's own help met a reader that had gone.
        Console(sys.stderr).is_closed = True
        sys.stdout = None  # so that Python does not flush into it when it ends
        return 0


def _usage_error(error: click.ClickException) -> ConfigurationError:
    hint = None
    if isinstance(error, click.NoSuchOption):
        message = f"unknown option '{error.option_name}'"
        known = [name for p in error.ctx.command.params for name in p.opts] if error.ctx else error.possibilities or []
        hint = did_you_mean(error.option_name, known)
    else:
        message, _, hint = error.format_message().rstrip(".").partition("; ")
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "aiflow"
    return ConfigurationError("bad-usage", message, hint=hint or f"see {path} --help")


def _complain(
    invocation: Invocation, error: AiflowError, as_json: bool, usage: click.ClickException | None = None
) -> int:
    data = error.to_dict()
    if as_json or invocation.as_json:
        Console(as_json=True).print_json({"error": data})
    elif usage is not None:
        console = Console(sys.stderr)
        console.print(f"{console.style('error', 'red', 'bold')}: {error.message}; {error.hint}")
    else:
        print_errors(Console(sys.stderr), [data], invocation.root)
    return 2 if usage is not None else exit_code([data])
