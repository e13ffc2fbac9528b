"""The text of a run variable, ``{{ ds }}``: what may stand in it, and its one spelling.

The grammar, where spaces mean nothing::

    template  = "{{" name call* "}}"
    name      = "ds" | "run_date" | … | "params" ("." word)+
    call      = ".offset(" integer ")" | ".format(" "'" strftime codes "'" ")"

Only this subset of Jinja is understood, so that a template means the same here, in Airflow and on a laptop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from aiflow_sdk.errors import DefinitionError, UnknownNameError, did_you_mean

NAMES: dict[str, str] = {
    "run_date": "the date at which the run's partition begins, as 2026-11-20",
    "ds": "the same as run_date",
    "ds_nodash": "the same date as 20261120",
    "data_interval_start": "the moment at which the run's partition begins, as 2026-11-20T00:00:00+00:00",
    "data_interval_end": "the moment at which it ends, itself not included",
    "logical_date": "the same as data_interval_start",
    "ts": "the same as data_interval_start",
    "run_id": "the id of the run",
    "pipeline_id": "the id of the pipeline",
}
"""Every run variable but ``params.*``, and what it stands for."""

_CANONICAL = {"run_date": "ds", "logical_date": "data_interval_start", "ts": "data_interval_start"}
TIME_NAMES = frozenset({"ds", "data_interval_start", "data_interval_end"})
"""The canonical names of what follows from the run's partition."""

_NODASH = "%Y%m%d"
_CODES = frozenset("YymdHMSjGVuUWwz%")  # of strftime; the others depend on the machine's language or C library
_ELSEWHERE = {
    "yesterday_ds": "{{ ds.offset(-1) }}",
    "prev_ds": "{{ ds.offset(-1) }}",
    "tomorrow_ds": "{{ ds.offset(1) }}",
    "next_ds": "{{ ds.offset(1) }}",
    "yesterday_ds_nodash": "{{ ds_nodash.offset(-1) }}",
    "tomorrow_ds_nodash": "{{ ds_nodash.offset(1) }}",
    "ts_nodash": "{{ ts.format('%Y%m%dT%H%M%S') }}",
    "execution_date": "{{ logical_date }}",
    "dag": "{{ pipeline_id }}",
    "dag_run": "{{ run_id }}, or a param: {{ params.name }}",
    "macros": "{{ ds.offset(-1) }} or {{ ds.format('%Y%m%d') }}",
    "params": "{{ params.name }}",
    "var": "a param, {{ params.name }}",
    "conn": "a secret, 'secret://name'",
    "secret": "the whole text 'secret://name', without braces",
}
"""What Airflow's other names, and near-misses, are written as here."""

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"\s*([A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*(?!\w*\s*\())*)\s*", re.ASCII)
_CALL = re.compile(
    r"""\.\s*(?:offset\s*\(\s*([+-]?\s*[0-9]{1,6})\s*\)|format\s*\(\s*('[^']*'|"[^"]*")\s*\))\s*""", re.ASCII
)
_HALVED = re.compile(rf"(?<!\{{)\{{\s+({'|'.join(NAMES)}|params\.\w+)\s+\}}(?!\}})")
_BLOCK = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class Reference(NamedTuple):
    """What one template refers to: a canonical name, shifted by periods, in a format."""

    name: str
    offset: int = 0
    pattern: str | None = None
    """Codes of ``strftime``; None for the name's own form."""

    def __str__(self) -> str:
        name, pattern = self.name, self.pattern
        if (name, self.offset, pattern) == ("ds", 0, _NODASH):
            name, pattern = "ds_nodash", None
        shift = f".offset({self.offset})" if self.offset else ""
        form = f".format('{pattern}')" if pattern is not None else ""
        return f"{{{{ {name}{shift}{form} }}}}"

    def shifted(self, periods: int) -> Reference:
        """Return the reference that many periods of the run's grain later. Raises ``DefinitionError`` for no time."""
        if isinstance(periods, bool) or not isinstance(periods, int) or abs(self.offset + periods) > 100_000:
            raise DefinitionError(
                "bad-template", f"offset({periods!r}) is not a number of periods", hint="write offset(-1)"
            )
        self._must_be_time("offset")
        return self._replace(offset=self.offset + periods)

    def formatted(self, pattern: str) -> Reference:
        """Return the reference written with these ``strftime`` codes. Raises ``DefinitionError`` for unknown ones."""
        self._must_be_time("format")
        if self.pattern is not None:
            raise DefinitionError("bad-template", f"{self} has its format already", hint="write .format(…) once")
        _check_pattern(pattern)
        return self._replace(pattern=None if (self.name, pattern) == ("ds", "%Y-%m-%d") else pattern)

    def _must_be_time(self, method: str) -> None:
        if self.name not in TIME_NAMES:
            times = ", ".join(sorted(TIME_NAMES))
            raise DefinitionError(
                "bad-template", f"{self} is no time, so it has no .{method}(…)", hint=f"times are {times}"
            )


@lru_cache(maxsize=4096)
def parse_reference(text: str) -> Reference:
    """Return what the inside of a template refers to. Raises ``DefinitionError`` or ``UnknownNameError``."""
    named = _NAME.match(text)
    if not named:
        raise _bad_template(text)
    name = re.sub(r"\s", "", named[1])
    reference = find_name(name) if name.startswith("params.") or "." not in name else None
    place = named.end()
    while reference and place < len(text):
        call = _CALL.match(text, place)
        if not call:
            raise _bad_template(text)
        if call[1] is not None:
            reference = reference.shifted(int(call[1].replace(" ", "")))
        else:
            reference = reference.formatted(call[2][1:-1])
        place = call.end()
    if reference is None:
        raise _bad_template(text)
    return reference


def find_name(name: str) -> Reference:
    """Return what ``run_date``, ``ds_nodash``, ``params.region`` … refer to. Raises ``UnknownNameError``."""
    if re.fullmatch(r"params(\.[A-Za-z_]\w*)+", name, re.ASCII):
        return Reference(name)
    if name == "ds_nodash":
        return Reference("ds", 0, _NODASH)
    if name not in NAMES:
        known = f"known: {', '.join(NAMES)}, params.*"
        instead = f"write {_ELSEWHERE[name]}" if name in _ELSEWHERE else None
        hint = instead or did_you_mean(name, NAMES) or known
        raise UnknownNameError("unknown-variable", f"unknown run variable '{name}'", hint=hint, notes=[known])
    return Reference(_CANONICAL.get(name, name))


def has_template(text: str) -> bool:
    """Tell whether the text holds a template, so that its value is known only at run time."""
    return "{{" in text


def replace_templates(text: str, write: Callable[[Reference], str]) -> str:
    """Return ``text`` with each template replaced by what ``write`` makes of its reference.

    Raises ``DefinitionError`` (``bad-template``) for expressions, for braces that a slice has cut off, and for braces
    that an f-string has halved.
    """
    if "{" not in text and "}" not in text:
        return text
    if block := _BLOCK.search(text):
        raise DefinitionError(
            "bad-template",
            f"{block[0]!r} is a block of Jinja, of which only {{{{ name }}}} is understood",
            hint="use Python's if and for",
        )
    outside = _TEMPLATE.sub("", text)
    # Nested JSON and SQL end in "}}" too, but each of their braces has its partner.
    if "{{" in outside or ("}}" in outside and outside.count("{") != outside.count("}")):
        raise DefinitionError(
            "bad-template",
            f"the braces of a template in {text!r} are not closed",
            hint="a run variable's text cannot be cut or split; use its .offset(-1) and .format('%Y%m%d')",
        )
    if halved := _HALVED.search(text):
        raise DefinitionError(
            "bad-template",
            f"{halved[0]!r} is not replaced: an f-string makes one brace of two",
            hint=f'write {{p.vars["{halved[1]}"]}} in the f-string',
        )
    return _TEMPLATE.sub(lambda found: write(parse_reference(found[1])), text)


def references(text: str) -> list[Reference]:
    """Return what the templates of ``text`` refer to, in order."""
    return [parse_reference(found[1]) for found in _TEMPLATE.finditer(text)]


def _check_pattern(pattern: str) -> None:
    codes = re.findall(r"%(.?)", pattern, re.DOTALL) if isinstance(pattern, str) else []
    unknown = sorted({code for code in codes if code not in _CODES or not code})
    if not codes or unknown or re.search(r"""['"{}\\\n\r]""", pattern):
        why = f"%{unknown[0]} is not understood" if unknown else "it takes codes such as %Y, no quotes, braces or \\"
        known = " ".join(f"%{code}" for code in sorted(_CODES))
        raise DefinitionError("bad-template", f"{pattern!r} is no format of a date: {why}", hint=f"codes are {known}")


def _bad_template(text: str) -> DefinitionError:
    inside = " ".join(text.split())
    first = re.match(r"\w+", inside)
    hint = "write a name, {{ ds.offset(-1) }} or {{ ds.format('%Y%m%d') }}; compute in the transform's function"
    if first and first[0] in _ELSEWHERE:
        hint = f"write {_ELSEWHERE[first[0]]}"
    return DefinitionError(
        "bad-template",
        f"'{{{{ {inside} }}}}' is not understood: filters, macros and expressions are not available",
        hint=hint,
    )
