"""Spark at work on one task."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiflow_sdk.engines.publishing import discard, publish_all
from aiflow_sdk.engines.spark.embedded import Server
from aiflow_sdk.engines.spark.failure import is_of_spark, query_failure, spark_failure, user_failure
from aiflow_sdk.engines.spark.output import committed_schema, complete, list_files, write_parquet
from aiflow_sdk.engines.spark.types import arrow_schema, readable_schema
from aiflow_sdk.engines.usercode import call_function, plugin_code
from aiflow_sdk.errors import DataError, UserCodeError
from aiflow_sdk.frames import (
    FrameKind,
    WantedFrame,
    arrow_types,
    convert,
    kind_of,
    match_arguments,
    name_inputs,
    to_reader,
)
from aiflow_sdk.place import placed
from aiflow_sdk.plugins import (
    Destination,
    FileSink,
    FileSource,
    Frame,
    FrameWrite,
    Pending,
    Scan,
    ServerProcess,
    Session,
    Source,
    SparkSource,
    UserFunction,
    Written,
    pending_write,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame as SparkFrame
    from pyspark.sql import SparkSession


class SparkTaskSession(Session):
    """Frames are PySpark's, lazy until they are written or a function asks for another kind."""

    def __init__(self, spark: SparkSession, server: Server | None, label: str = "aiflow") -> None:
        self.spark = spark
        self._server = server
        self._tag = f"{label} {uuid.uuid4()}".replace(",", "-")
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        self.spark.addTag(self._tag)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.cancel()
        self.spark.removeTag(self._tag)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def server(self) -> ServerProcess:
        return ServerProcess(self._server.pid if self._server else None)

    def cancel(self) -> None:
        """Interrupt what Spark does for this task now; may be called from any thread."""
        if self._server and not self._server.is_alive:
            return
        try:
            self.spark.interruptTag(self._tag)
        except Exception:  # noqa: BLE001  # best effort: the server may be what has failed
            return

    def read(self, source: Source, scan: Scan) -> SparkFrame:
        with _failures(f"reading '{source.dataset().name}'"):
            if isinstance(source, SparkSource):
                with _plugin_code(source):
                    frame = source.to_spark(self.spark, scan)
                if frame is not None:
                    return frame
            if isinstance(source, FileSource):
                with _plugin_code(source):
                    files = source.parquet_files()
                if files:
                    return self._read_files(files.paths)
            with _plugin_code(source):
                schema = source.arrow_schema()
            return self._from_arrow(_batches(source, scan), schema)

    def call(self, function: UserFunction, inputs: Mapping[str, Frame]) -> SparkFrame | None:
        matched = match_arguments(
            function.function,
            inputs,
            function.params,
            function.context,
            {"spark": self.spark},
            name=function.entrypoint,
        )
        with _failures(f"computing the inputs of '{function.node_id}'"):
            args, kwargs = matched.arguments(self._as_wanted)
        what = f"the function '{function.entrypoint}'"
        columns = [column for frame in inputs.values() for column in frame.columns]
        try:
            result = call_function(function, args, kwargs)
        except UserCodeError as error:
            if (cause := error.__cause__) and is_of_spark(cause):
                raise user_failure(cause, what, function.function, columns) from cause
            raise
        if kind_of(result) is FrameKind.SPARK:
            try:
                _ = result.schema  # the server looks at it only when asked, and here it is plain whose frame it is
            except Exception as error:  # what is not Spark's own goes on as it is
                if not is_of_spark(error):
                    raise
                raise user_failure(error, what, function.function, columns) from error
        return self._result(result, function)

    def sql(self, query: str, inputs: Mapping[str, Frame]) -> SparkFrame:
        frames: dict[str, Frame] = {}

        def view_of(name: str, input_id: str) -> str:
            view = f"input_{list(inputs).index(input_id)}"
            frames[view] = inputs[input_id]
            return f"\0{view}\1"

        # PySpark formats the text with str.format: braces of ours alone may reach it.
        text = name_inputs(query, inputs, view_of).replace("{", "{{").replace("}", "}}")
        text = text.replace("\0", "{").replace("\1", "}")
        try:
            frame = self.spark.sql(text, **frames) if frames else self.spark.sql(query)
            _ = frame.schema
        except Exception as error:  # what is not Spark's own goes on as it is
            if not is_of_spark(error):
                raise
            columns = [column for given in inputs.values() for column in given.columns]
            raise query_failure(error, columns) from error
        return frame

    def write(self, writes: Sequence[FrameWrite]) -> Sequence[Written]:
        """Write all frames, let them be audited, then publish them in order.

        A frame that goes to several sinks is computed once.

        Two frames of which one is made from the other are both computed: on the embedded server, which keeps nothing
        between two commands, what they share is computed twice.
        """
        names = ", ".join(f"'{write.request.node_id}'" for write in writes)
        outputs: list[_Output] = []
        try:
            with _failures(f"computing {names}"), self._shared(writes) as shared:
                for write in writes:
                    with placed(write.request.where), _failures(f"computing '{write.request.node_id}'"):
                        outputs.append(_Output(write))
                        outputs[-1].compute(self, shared[id(write.frame)])
            return publish_all(writes, [output.pend for output in outputs])
        finally:
            for output in outputs:
                output.clean()

    def columns(self, frame: SparkFrame) -> tuple[tuple[str, str], ...] | None:
        with _failures("looking at a frame"):
            return arrow_types(frame)

    def _as_wanted(self, wanted: WantedFrame) -> Any:
        if wanted.kind in (None, FrameKind.SPARK):
            return wanted.frame
        schema = arrow_schema(wanted.frame.schema)
        return convert(wanted.frame.toArrow().cast(schema), wanted.kind or FrameKind.ARROW)

    def _result(self, result: Any, function: UserFunction) -> SparkFrame | None:
        if result is None or kind_of(result) is FrameKind.SPARK:
            return result  # type: ignore[no-any-return]  # known by its kind
        with _failures(f"taking over what {function.entrypoint} returned"):
            reader = to_reader(result)
            return self._from_arrow(reader, reader.schema)

    def _read_files(self, paths: Sequence[str]) -> SparkFrame:
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        local = [path for path in paths if "://" not in path]
        for path in local:
            if not Path(path).exists():  # Sail would read an empty frame without columns
                raise DataError("missing-file", f"there is no file {path} any more", hint="run what makes it again")
        if local:
            schema = pq.read_schema(local[0]).remove_metadata()
            is_pattern = any(set(path) & set("*?[]{}\\") for path in local)  # to Spark, which has no way to quote it
            if is_pattern or not readable_schema(schema).equals(schema):
                dataset = ds.dataset(list(paths), format="parquet")
                return self._from_arrow(dataset.to_batches(), dataset.schema)
        return self.spark.read.parquet(*paths)

    def _from_arrow(self, batches: Any, schema: pa.Schema | None) -> SparkFrame:
        """Return a Spark frame of these batches: through a file, so that any size goes and no type is guessed."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        batches = iter(batches)
        first = next(batches, None)
        schema = first.schema if first is not None else schema
        if schema is None:
            raise DataError("no-columns", "a source yielded nothing and does not say which columns it has")
        wanted = readable_schema(schema)
        if self._server is None or first is None:
            table = pa.Table.from_batches([one for one in (first, *batches) if one is not None], schema)
            return self._from_table(_cast(table, wanted))
        path = self._scratch() / f"{uuid.uuid4().hex}.parquet"
        with pq.ParquetWriter(path, wanted, compression="lz4") as writer:
            while first is not None:
                writer.write_table(_cast(pa.Table.from_batches([first]), wanted))
                first = next(batches, None)
        return self.spark.read.parquet(str(path))

    def _from_table(self, table: pa.Table) -> SparkFrame:
        from pyspark.sql.pandas.types import from_arrow_schema

        # Said, not guessed: PySpark would take local times for moments.
        return self.spark.createDataFrame(table, schema=from_arrow_schema(table.schema, prefer_timestamp_ntz=True))

    @contextmanager
    def _shared(self, writes: Sequence[FrameWrite]) -> Iterator[Mapping[int, SparkFrame]]:
        """Yield for each frame (by ``id``) what to write for it: computed once where several sinks take it."""
        frames = {id(write.frame): write.frame for write in writes}
        if self._server is None:
            kept = [frame.persist() for frame in frames.values()] if len(writes) > 1 else []
            try:
                yield frames
            finally:
                for frame in kept:
                    frame.unpersist()
            return
        for key, frame in frames.items():
            if sum(write.frame is frame for write in writes) > 1:
                folder = self._scratch() / uuid.uuid4().hex
                write_parquet(frame, str(folder))
                is_empty = not list_files(str(folder))
                frames[key] = frame.limit(0) if is_empty else self.spark.read.parquet(str(folder))
        yield frames

    def _scratch(self) -> Path:
        if self._folder is None:
            assert self._server is not None
            self._folder = self._server.scratch_folder()
        return self._folder

    def to_batches(self, frame: SparkFrame) -> tuple[pa.RecordBatchReader, int]:
        """Return the rows for a sink that takes Arrow, and how many: through files, unless the server is elsewhere."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        schema = arrow_schema(frame.schema)
        if self._server is None:
            table = frame.toArrow().cast(schema)
            return table.to_reader(), table.num_rows
        folder = self._scratch() / uuid.uuid4().hex
        write_parquet(frame, str(folder))
        files = list_files(str(folder))
        if not files:
            return schema.empty_table().to_reader(), 0
        batches = ds.dataset([str(folder / file.path) for file in files], schema=schema).to_batches()
        return pa.RecordBatchReader.from_batches(schema, batches), sum(file.rows for file in files)


class _Output:
    """One write: its rows are computed, then handed over to the sink."""

    def __init__(self, write: FrameWrite) -> None:
        self._sink, self._request = write.sink, write.request
        self._destination: Destination | None = None
        self._is_handed_over = False

    def compute(self, session: SparkTaskSession, frame: SparkFrame) -> None:
        """Let Spark compute the rows, into files where the sink takes them: what is left is to commit it."""
        fill = self._request.fill
        if not isinstance(self._sink, FileSink):
            with _plugin_code(self._sink):
                columns = self._sink.partition_columns()
            frame = complete(frame, columns, {}, fill)
            self._batches, self._rows = session.to_batches(frame)
            return
        with _plugin_code(self._sink):
            self._destination = place = self._sink.destination(self._request)
        filled = [column for column in place.partition_by if column not in frame.columns]
        frame = complete(frame, place.partition_by, place.types, fill, widening=place.widening)
        self._schema = committed_schema(frame, place, filled)
        write_parquet(frame, place.folder, place.partition_by)
        self._files = list_files(place.folder, place.partition_by, place.storage_options)

    def pend(self) -> Pending:
        """Hand over to the sink what was computed; nobody sees it yet."""
        if self._destination is None:
            return Pending(self._write_batches, withdraw=lambda: None)
        assert isinstance(self._sink, FileSink)
        self._is_handed_over = True
        with _plugin_code(self._sink):
            return pending_write(self._sink, self._files, self._schema, self._request)

    def clean(self) -> None:
        """Remove the files of a write that was not to be; those that the sink heard of are its own."""
        if self._destination is not None and not self._is_handed_over:
            discard(self._destination)

    def _write_batches(self) -> Written:
        written = self._sink.write(self._batches, self._request)
        rows = self._rows if written.rows is None and not written.superseded else written.rows
        columns = written.columns or tuple((field.name, str(field.type)) for field in self._batches.schema)
        return replace(written, rows=rows, columns=columns)


def _batches(source: Source, scan: Scan) -> Iterator[pa.RecordBatch]:
    with _plugin_code(source):
        yield from source.scan(scan)


_plugin_code = partial(plugin_code, passing=is_of_spark)
"""What Spark says while a plugin uses it is told in Spark's own words."""


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    try:
        return table.cast(schema)
    except pa.ArrowInvalid as error:
        raise DataError(
            "value-out-of-range",
            f"a value has no like in Spark: {error}",
            hint="Spark counts whole numbers to 2^63 and time in microseconds",
        ) from error


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    """Turn what PySpark raises into our errors."""
    try:
        yield
    except Exception as error:  # what is not Spark's own goes on as it is
        if not is_of_spark(error):
            raise
        raise spark_failure(error, doing) from error
