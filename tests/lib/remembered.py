"""What a process remembers of a table after its own write is what the table's log says."""

from aiflow_sdk.config import Environment
from aiflow_sdk.connectors.onelake.location import table_place
from aiflow_sdk.connectors.onelake.table import TableState, load_table, read_table


def check_remembered(environment: Environment, table: str) -> None:
    """Compare what is remembered with the log, values of partitions with their types."""
    place = table_place(environment, table, None)
    known, read = read_table(place), load_table(place)
    assert (known is None) == (read is None)
    if known is None or read is None:
        return
    assert _told(known) == _told(read)
    assert known.noted == {app: read.generation(app) for app in known.noted}


def _told(state: TableState) -> tuple[object, ...]:
    files = sorted(state.files, key=lambda file: file.path)
    kinds = [[type(value) for value in file.partition.values()] for file in files]
    return state.version, state.types, state.partition_columns, files, kinds
