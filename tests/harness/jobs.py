"""What the tests of the harness run and kill."""

import os
import subprocess
import sys
import time
from pathlib import Path


def write_plainly(folder: str) -> None:
    """Six steps: mkdir, open, write, fsync, close, rename."""
    os.mkdir(f"{folder}/d")
    descriptor = os.open(f"{folder}/d/new", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"0123456789")
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(f"{folder}/d/new", f"{folder}/d/file")


def write_in_a_child(folder: str) -> None:
    """The child dies or not; this process tells which."""
    program = f"open({folder + '/file'!r}, 'w').write('x')"
    print("child ended with", subprocess.run([sys.executable, "-c", program]).returncode)


def write_delta(address: str, options: dict[str, str], number: int = 0) -> None:
    """Write a parquet file with polars and append a version to a Delta table."""
    import polars as pl
    from deltalake import write_deltalake

    frame = pl.DataFrame({"number": [number] * 1000})
    frame.lazy().sink_parquet(f"{address}/f.parquet", storage_options=options)
    write_deltalake(f"{address}/t", frame, mode="append", storage_options=options)


def write_with_sail(folder: str) -> None:
    """Write parquet with an embedded Sail server."""
    from pysail.spark import SparkConnectServer
    from pyspark.sql.connect.session import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start()
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").create()
    session.range(1000).write.parquet(f"{folder}/p")
    session.stop()
    server.stop()


def hang(folder: str) -> None:
    """Never end, and leave a child that does not either."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / "child").write_text(str(child.pid))
    time.sleep(600)


def tell_the_clock(folder: str) -> None:
    """The clock of the day, by three ways, and the kernel's by a file's time."""
    import polars as pl

    (Path(folder) / "now").touch()
    print(time.time(), pl.select(pl.lit(0)).height, os.stat(f"{folder}/now").st_mtime)
    print(subprocess.run(["date", "+%s"], capture_output=True, text=True).stdout)


def fail(folder: str) -> None:
    """Raise."""
    raise ValueError(f"no luck in {folder}")
