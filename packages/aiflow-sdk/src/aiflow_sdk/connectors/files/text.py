"""CSV and JSON lines to Arrow and back, by one reader for all engines, so that every engine sees the same types.

Types are inferred from the beginning (16 MiB) of each file; what does not fit them later is an error with its line.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiflow_sdk.connectors.files.place import Format
from aiflow_sdk.connectors.parquet import missing_columns, shared_schema
from aiflow_sdk.errors import ConfigurationError, DataError, Where, did_you_mean, unknown_name
from aiflow_sdk.plugins import NULL_FOLDER, DataFile, Write, refuse_null_folder

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES = 16 * 2**20
_ROW = re.compile(r"Row #(\d+)")
_JSON_ROW = re.compile(r"in row (\d+)")
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, ?(?:tz=)?(.+))?\]")
_DECIMAL = re.compile(r"decimal(?:128)?\((\d+), ?(\d+)\)")


@dataclass(frozen=True)
class TextFormat:
    """How the text is to be read."""

    format: Format
    delimiter: str = ","
    header: bool = True
    columns: tuple[str, ...] = ()
    """Names, where the file has none."""
    null_values: tuple[str, ...] = ("",)
    types: Mapping[str, str] = field(default_factory=dict)
    """Column → Arrow type name, where it is stated."""

    def schema(self, files: Sequence[Path]) -> pa.Schema:
        """Return the columns of all files together. Raises ``DataError`` for a file that does not fit the others."""
        import pyarrow as pa

        stated = {name: arrow_type(kind) for name, kind in self.types.items()}
        found: pa.Schema | None = None
        for file in files:
            if self._is_empty(file):
                continue
            with _malformed(file, self.format):
                one = self._open(file, stated).schema
                _check_is_text(file, one)
            if found is None:
                found = one
                continue
            if self.format == "csv" and set(one.names) != set(found.names):
                different = sorted(set(one.names) ^ set(found.names))
                raise DataError(
                    "schema-mismatch",
                    f"the files do not have the same columns: {', '.join(different)}",
                    where=Where(str(file), 1),
                    hint=f"give {file.name} the columns {', '.join(found.names)}, or read it by itself",
                )
            try:
                found = pa.unify_schemas([found, one], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    "schema-mismatch",
                    f"a column has another type than in the files before: {error}",
                    where=Where(str(file)),
                    hint='state it: types={"column": "string"}',
                ) from error
        if found is None:
            return pa.schema(list(stated.items()))
        unknown = [name for name in stated if name not in found.names]
        if unknown and self.format == "csv":
            raise unknown_name("unknown-column", "column in 'types'", unknown[0], found.names)
        return shared_schema(found)

    def batches(self, file: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the file's rows in just these columns and types."""
        import pyarrow as pa

        if self._is_empty(file):
            return
        types = {column.name: column.type for column in schema}
        with _malformed(file, self.format):
            for batch in self._open(file, types, strict=True):
                empty = {
                    name: pa.nulls(batch.num_rows, types[name]) for name in types if name not in batch.schema.names
                }
                arrays = [empty[name] if name in empty else batch.column(name).cast(types[name]) for name in types]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _is_empty(self, file: Path) -> bool:
        """Whether the file is one of no lines; one of CSV would have a header at least."""
        return self.format == "jsonl" and file.stat().st_size == 0

    def _open(self, file: Path, types: Mapping[str, pa.DataType], *, strict: bool = False) -> Any:
        import pyarrow as pa

        if self.format == "jsonl":
            from pyarrow import json as pj

            return pj.open_json(
                file,
                pj.ReadOptions(block_size=_BLOCK_BYTES),
                pj.ParseOptions(
                    explicit_schema=pa.schema(list(types.items())) if types else None,
                    unexpected_field_behavior="error" if strict else "infer",
                ),
            )
        from pyarrow import csv as pc

        return pc.open_csv(
            file,
            pc.ReadOptions(
                use_threads=False,  # only so an error tells its row
                block_size=_BLOCK_BYTES,
                column_names=list(self.columns) or None,
                autogenerate_column_names=not self.header and not self.columns,
                skip_rows=1 if self.header and self.columns else 0,
            ),
            pc.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            pc.ConvertOptions(
                column_types=dict(types),
                null_values=list(self.null_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,  # "" is empty text, nothing at all is null
            ),
        )


@contextmanager
def _malformed(file: Path, format: Format) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        text = str(error)
        line = None
        if found := _ROW.search(text):
            line = int(found[1])
        elif format == "jsonl":
            line = _bad_json_line(file, text)
        hint = 'state the type: types={"column": "string"}' if "conversion" in text or "changed from" in text else None
        raise DataError(
            "malformed-file", f"{file.name} cannot be read as {format}: {text}", where=Where(str(file), line), hint=hint
        ) from error


def _bad_json_line(file: Path, text: str) -> int | None:
    """Return the first line that is no JSON object, else the row that the reader named."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            content = line.removeprefix(b"\xef\xbb\xbf").strip()
            try:
                if content and not isinstance(json.loads(content), dict):
                    return number
            except ValueError:
                return number
    found = _JSON_ROW.search(text)
    return int(found[1]) + 1 if found and file.stat().st_size <= _BLOCK_BYTES else None


def _check_is_text(file: Path, schema: pa.Schema) -> None:
    import pyarrow as pa

    for column in schema:
        if pa.types.is_binary(column.type):
            raise DataError(
                "malformed-file",
                f"column '{column.name}' of {file.name} is not UTF-8",
                where=Where(str(file)),
                hint="convert the file to UTF-8",
            )


def arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type of that name. Raises ``ConfigurationError`` (``unknown-type``)."""
    import pyarrow as pa

    if found := _TIMESTAMP.fullmatch(name):
        return pa.timestamp(found[1], found[2])
    if found := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    try:
        return pa.type_for_alias(name)
    except ValueError as error:
        known = ["string", "int64", "int32", "double", "bool", "date32", "timestamp[us]", "timestamp[us, tz=UTC]"]
        raise ConfigurationError(
            "unknown-type",
            f"there is no type '{name}'",
            hint=did_you_mean(name, known) or f"write one of {', '.join(known)}",
        ) from error


def write_text(
    batches: pa.RecordBatchReader, folder: Path, partition_by: Sequence[str], request: Write, format: Format
) -> tuple[list[DataFile], pa.Schema]:
    """Write all batches as one file below ``folder``, or one for each partition; a frame without rows makes one too."""
    import pyarrow as pa

    lacking = missing_columns(partition_by, batches.schema.names, request)
    schema = shared_schema(batches.schema)
    in_files = pa.schema([column for column in schema if column.name not in partition_by])
    _check_writable(in_files, format)
    rows: dict[str, int] = {}
    for batch in batches:
        batch = batch.cast(schema)
        for name in lacking:
            batch = batch.append_column(name, pa.repeat(pa.scalar(request.fill[name]), batch.num_rows))
        for path, part in _split(batch, partition_by, format):
            _append(folder / path, part.select(in_files.names), format, begins=path not in rows)
            rows[path] = rows.get(path, 0) + part.num_rows
    if not rows and not partition_by:
        path = f"part-0.{format}"
        _append(folder / path, pa.RecordBatch.from_pylist([], schema=in_files), format, begins=True)
        rows[path] = 0
    files = [DataFile(path, (folder / path).stat().st_size, count) for path, count in rows.items()]
    return files, pa.schema([*schema, *((name, pa.string()) for name in lacking)])


def _split(batch: pa.RecordBatch, partition_by: Sequence[str], format: Format) -> Iterator[tuple[str, pa.RecordBatch]]:
    import pyarrow as pa

    if not partition_by:
        yield f"part-0.{format}", batch
        return
    texts = [batch.column(name).cast(pa.string()).to_pylist() for name in partition_by]
    for name, values_of in zip(partition_by, texts, strict=True):
        refuse_null_folder(name, values_of)
    indices: dict[tuple[str | None, ...], list[int]] = {}
    for index, values in enumerate(zip(*texts, strict=True)):
        indices.setdefault(values, []).append(index)
    for values, chosen in indices.items():
        folders = (folder_name(name, value) for name, value in zip(partition_by, values, strict=True))
        yield "/".join([*folders, f"part-0.{format}"]), batch.take(pa.array(chosen))


def folder_name(column: str, value: str | None) -> str:
    """Return the folder of a partition: ``column=value``, both percent-encoded."""
    return f"{quote(column, safe='')}={quote(value, safe='') if value else NULL_FOLDER}"


def _append(path: Path, batch: pa.RecordBatch, format: Format, *, begins: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if format == "csv":
            from pyarrow import csv as pc

            pc.write_csv(batch, file, pc.WriteOptions(include_header=begins))
        else:
            for row in batch.to_pylist():
                text = json.dumps(_plain(row), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                file.write(text.encode() + b"\n")


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def _check_writable(schema: pa.Schema, format: Format) -> None:
    import pyarrow as pa

    nested = [column.name for column in schema if pa.types.is_nested(column.type)]
    if format == "csv" and nested:
        raise DataError(
            "unsupported-type",
            f"CSV has no place for lists and structs: {', '.join(nested)}",
            hint='write format="jsonl" or "parquet"',
        )
