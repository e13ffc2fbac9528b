"""Files as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from aiflow_sdk.connectors.files.naming import dated_path
from aiflow_sdk.connectors.files.place import (
    LOOKS,
    SUFFIXES,
    Format,
    Place,
    changed,
    files_identity,
    format_of,
    looked_at,
)
from aiflow_sdk.connectors.files.text import TextFormat, arrow_type
from aiflow_sdk.connectors.onelake.location import dataset_name, is_deferred
from aiflow_sdk.connectors.parquet import (
    FileGroup,
    arrow_filter,
    check_request,
    group_files,
    narrow_polars,
    scan_arrow,
    scan_polars,
)
from aiflow_sdk.errors import ConfigurationError, DataError, Where
from aiflow_sdk.frames import polars_type
from aiflow_sdk.ir import DatasetName, FrozenMap, PlainMap
from aiflow_sdk.plan import Run
from aiflow_sdk.plugins import DatasetPart, ParquetFiles, Scan, Source

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class FilesSource(Source, kind="files"):
    """Parquet, CSV or JSON lines: one file, all files of a folder, or those that a pattern (``*``, ``**``) names.

    Folders ``column=value`` are columns of text. Files and folders whose names begin with ``_`` or ``.`` are left out.
    """

    path: str = Field(min_length=1)
    """Relative to ``root``."""
    format: Format | None = None
    """None: what the path's suffix tells."""
    root: Literal["project", "lake"] = "project"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Of CSV; of ``.tsv`` files a tab."""
    header: bool = True
    """Whether the first line of a CSV file names its columns."""
    columns: tuple[str, ...] = ()
    """Names of a CSV file's columns, in place of those that it has or lacks."""
    null_values: tuple[str, ...] = ("",)
    """What stands for null in a CSV file, unquoted."""
    types: PlainMap = FrozenMap()
    """Column → Arrow type name, where it is not to be inferred."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.format is None and format_of(self.path) is None and not is_deferred(self.path):
            raise ConfigurationError(
                "unknown-format",
                f"the name '{self.path}' does not tell what the files hold",
                hint=f'write format="parquet", "csv" or "jsonl", or a path that ends in {", ".join(SUFFIXES)}',
            )
        return self

    def dataset(self) -> DatasetName:
        """Return the path below the project or, as a table there would be called, below the lake."""
        return _name_of(self.path, self.root)

    @classmethod
    def dated(cls, options: Mapping[str, Any]) -> DatasetPart | None:
        """Return the path without what the run's time decides at its end, and that."""
        path, root = options.get("path"), options.get("root", "project")
        found = None if is_deferred(root) else dated_path(path)
        return DatasetPart(_name_of(found.name, root), found.part, str(path)) if found else None

    def arrow_schema(self) -> pa.Schema:
        """Return the columns, those of folders last. Raises ``DataNotReadyError`` where no file is there."""
        return looked_at(lambda: self._schema(self._place.files()), self.path)

    def scan(self, request: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows, file by file. Raises ``DataNotReadyError`` (``input-changed``) where one goes meanwhile."""
        for look in range(1, LOOKS + 1):
            begun = False
            try:
                for batch in self._rows(request):
                    begun = True
                    yield batch
                return
            except FileNotFoundError as error:
                if begun or look == LOOKS:
                    raise changed(self.path, error) from error

    def _rows(self, request: Scan) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.dataset as ds

        files = self._place.files()
        schema = self._schema(files)
        check_request(request, schema.names, f"'{self.path}'")
        groups = self._groups(files)
        if self._place.format == "parquet":
            try:
                yield from scan_arrow(groups, schema, request)
            except pa.ArrowInvalid as error:
                raise DataError("malformed-file", f"'{self.path}' cannot be read: {error}") from error
            return
        rows = self._text_batches(groups, schema)
        columns = list(request.columns or schema.names)
        scanner = ds.Scanner.from_batches(rows, schema=schema, columns=columns, filter=arrow_filter(request.predicates))
        left, empty = request.limit, True
        for batch in scanner.to_batches():
            empty = False
            yield batch if left is None else batch.slice(0, left)
            if left is not None and (left := left - batch.num_rows) <= 0:
                return
        if empty:
            yield pa.RecordBatch.from_pylist([], schema=pa.schema([schema.field(name) for name in columns]))

    def to_polars(self, request: Scan) -> pl.LazyFrame:
        """Return a lazy frame: of Parquet files one that reads what it needs, of others one of rows that are read."""
        return looked_at(lambda: self._lazy_rows(request), self.path)

    def _lazy_rows(self, request: Scan) -> pl.LazyFrame:
        import polars as pl

        if self._place.format != "parquet":
            import pyarrow as pa

            batches = list(self.scan(Scan(request.run, request.columns, request.predicates, request.limit)))
            frame = pl.from_arrow(pa.Table.from_batches(batches))
            assert isinstance(frame, pl.DataFrame)
            return frame.lazy()
        files = self._place.files()
        columns: dict[str, Any] = {}
        for file in files:
            try:
                found = pl.read_parquet_schema(file)
            except pl.exceptions.ComputeError as error:
                raise _no_parquet(file, error) from error
            columns = {**found, **columns}
        groups = self._groups(files)
        columns.update(dict.fromkeys(groups[0].values, pl.String()))
        check_request(request, tuple(columns), f"'{self.path}'")
        stated = {name: polars_type(str(arrow_type(kind))) for name, kind in self.types.items()}
        frame_of_files = scan_polars(groups, pl.Schema(columns), Scan())
        return narrow_polars(
            frame_of_files.cast({k: v for k, v in stated.items() if v}) if stated else frame_of_files, request
        )

    def parquet_files(self) -> ParquetFiles | None:
        """Return the files where they hold all columns themselves."""
        if self._place.format != "parquet" or self.types:
            return None
        groups = looked_at(lambda: self._groups(self._place.files()), self.path)
        return ParquetFiles(groups[0].paths) if len(groups) == 1 and not groups[0].values else None

    def identity(self, run: Run) -> str:
        """Return a fingerprint of names, sizes and times of the files."""
        return looked_at(lambda: files_identity(self._place.files(), self._place.base), self.path)

    def measure(self, run: Run) -> tuple[int | None, int | None]:
        """Return the files' bytes; rows are not told without reading."""
        return None, looked_at(lambda: sum(file.stat().st_size for file in self._place.files()), self.path)

    @property
    def _place(self) -> Place:
        return Place(self.path, self.format or format_of(self.path) or "parquet", self.root, self.environment)

    @property
    def _text(self) -> TextFormat:
        tabs = self.path.lower().endswith(".tsv") and self.delimiter == ","
        return TextFormat(
            self._place.format,
            "\t" if tabs else self.delimiter,
            self.header,
            self.columns,
            self.null_values,
            {name: str(kind) for name, kind in self.types.items()},
        )

    def _groups(self, files: Sequence[Path]) -> list[FileGroup]:
        place = self._place
        pairs = [(str(file), place.partition(file)) for file in files]
        names = list(dict.fromkeys(name for _, values in pairs for name in values))
        return group_files((path, {name: values.get(name) for name in names}) for path, values in pairs)

    def _schema(self, files: Sequence[Path]) -> pa.Schema:
        import pyarrow as pa

        folders = {name: pa.string() for group in self._groups(files) for name in group.values}
        if self._place.format != "parquet":
            inside = self._text.schema(files)
        else:
            import pyarrow.parquet as pq

            columns: dict[str, pa.DataType] = {}
            for file in files:
                try:
                    found = pq.read_schema(file)
                except pa.ArrowInvalid as error:
                    raise _no_parquet(file, error) from error
                columns = {**{column.name: column.type for column in found}, **columns}
            stated = {name: arrow_type(kind) for name, kind in self.types.items() if name in columns}
            inside = pa.schema(list({**columns, **stated}.items()))
        return pa.schema([*(column for column in inside if column.name not in folders), *folders.items()])

    def _text_batches(self, groups: Sequence[FileGroup], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for group in groups:
            inside = pa.schema([column for column in schema if column.name not in group.values])
            for path in group.paths:
                for batch in self._text.batches(Path(path), inside):
                    for name, value in group.values.items():
                        batch = batch.append_column(name, pa.repeat(pa.scalar(value, pa.string()), batch.num_rows))
                    yield batch


def _name_of(path: str, root: str) -> DatasetName:
    return dataset_name(None, path) if root == "lake" else DatasetName("file", path)


def _no_parquet(file: Path, error: Exception) -> DataError:
    return DataError("malformed-file", f"{file.name} is no Parquet file: {error}", where=Where(str(file)))
