"""What may not stand in a pipeline: Airflow's objects, secrets in plain text, things that only Python knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from aiflow_sdk.errors import DefinitionError
from aiflow_sdk.factories import Declaration
from aiflow_sdk.ir import Frozen, FrozenMap, unwrap
from aiflow_sdk.variables import canonicalise, has_secret, has_template

_SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|pwd|passphrase|secret|token|credentials?|sas|"
    r"(api|access|account|private|secret|shared|signing|encryption)_?key)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"""[a-z][a-z0-9+.-]*://[^/\s:@]*:(?P<password>[^/\s@]+)@"""
    r"""|\b(?:password|pwd|accountkey|sharedaccesskey|sharedaccesssignature|client_secret|secretkey)\s*=\s*(?P<pair>[^;\s&]+)"""
    r"""|\b(?P<aws>(?:AKIA|ASIA)[A-Z0-9]{16})\b|(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----)""",
    re.IGNORECASE,
)


def plain_map(values: Mapping[str, Any]) -> FrozenMap:
    """Return the author's values as frozen plain data, templates in their one spelling, or raise what is wrong."""
    for name, value in values.items():
        refuse_foreign(value, str(name))
    plain = canonicalise(values)
    for problem in secret_problems(plain):
        raise problem
    return FrozenMap(plain)


def refuse_foreign(value: Any, name: str) -> None:
    """Raise ``DefinitionError`` where the value, or one inside it, belongs to Airflow or is a pipeline's own part."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_foreign(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_foreign(item, name)
    elif isinstance(value, Declaration):
        raise DefinitionError(
            "misplaced-declaration",
            f"'{name}' is given {value!r}",
            hint="write p.read(source.…) and p.write(dataset, sink.…)",
        )
    elif is_airflow(value):
        raise DefinitionError(
            "airflow-object",
            f"'{name}' is given an object of Airflow ({type(value).__name__})",
            hint="declare the work with source.…, .transform(…) and sink.…; aiflow makes the DAG and its tasks",
        )


def is_airflow(value: Any) -> bool:
    """Whether the value is an object of Airflow or a class or function of it."""
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    modules = [getattr(value, "__module__", None), *(kind.__module__ for kind in kinds)]
    return any(isinstance(module, str) and module.split(".")[0] == "airflow" for module in modules)


def secret_problems(value: Any, name: str = "") -> Iterator[DefinitionError]:
    """Yield an error for each text that looks like a secret. The text itself is not shown."""
    match value:
        case Mapping():
            for key, item in value.items():
                yield from secret_problems(item, f"{name}.{key}".lstrip("."))
        case list() | tuple():
            for item in value:
                yield from secret_problems(item, name)
        case str() if value and not has_secret(value):
            found = _SECRET_TEXT.search(value)
            last = name.rpartition(".")[2]
            if found and not has_template(next(text for text in found.groups() if text)):
                yield _literal_secret(name, "a password or key stands in the text of")
            elif _SECRET_NAME.search(last) and not has_template(value):
                yield _literal_secret(name, "plain text is given for")


def _literal_secret(name: str, what: str) -> DefinitionError:
    reference = re.sub(r"[^A-Za-z0-9_]+", "_", name.rpartition(".")[2])
    return DefinitionError(
        "literal-secret",
        f"{what} '{name}', and whoever reads the pipeline would read it",
        hint=f'write "secret://{reference}" as the whole value; the environment says where that name is looked up',
    )


def make(kind: type[Frozen], **fields: Any) -> Any:
    """Return ``kind(**fields)``; what pydantic says becomes a ``DefinitionError`` in the author's words."""
    try:
        return kind(**fields)
    except ValidationError as error:
        raise unwrap(error) or _wrong_value(error) from None


def _wrong_value(error: ValidationError) -> DefinitionError:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    return wrong_value(name, first.get("input"), first["msg"].removeprefix("Input should be ").replace("valid ", ""))


def wrong_value(name: str, value: object, wanted: str) -> DefinitionError:
    """Return the error for a value of the wrong type or range."""
    return DefinitionError("bad-value", f"{name}={value!r} is not {wanted}", hint=f"give {name} {wanted}")


def expect(name: str, value: Any, kinds: type | tuple[type, ...], wanted: str) -> Any:
    """Return ``value`` if it is one of ``kinds`` (True and False are no numbers), else raise."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        if is_airflow(value):
            refuse_foreign(value, name)
        raise wrong_value(name, value, wanted)
    return value
