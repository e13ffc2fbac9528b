"""Write tests/golden/foreign_tables: tables that our own writer never makes, by Spark on the JVM.

    make spark && .venv-spark/bin/python scripts/write_foreign_tables.py [NAME …]

Each becomes NAME.zip (the table's folder) and NAME.json (its rows as Spark reads them). The bytes differ from run to
run (Spark names files by chance), so a table is written anew only when it is to hold something else.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from foreign import logs, rules, values  # noqa: F401  # each registers its tables
from foreign.making import MAKERS
from foreign.spark import open_spark, told_rows
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

TARGET = Path(__file__).parents[1] / "tests" / "golden" / "foreign_tables"


def describe(spark: SparkSession, name: str, at: str) -> dict[str, object]:
    """Return what the table is and holds, as Spark reads it."""
    frame = spark.read.format("delta").load(at)
    detail = spark.sql(f"describe detail delta.`{at}`").first()
    return {
        "about": MAKERS[name].__doc__.strip().splitlines()[0],
        "partition_by": detail["partitionColumns"],
        "features": detail["tableFeatures"],
        "types": dict(frame.dtypes),
        "rows": told_rows(frame),
    }


def pack(folder: Path, target: Path) -> None:
    """Zip the folder: sorted, of one date, without the checksums of Hadoop's local files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if path.name.startswith(".") and path.name.endswith(".crc"):
                continue
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (2026, 11, 20, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())


def main(names: list[str]) -> int:
    """Write the named tables, or all; return how many failed."""
    TARGET.mkdir(parents=True, exist_ok=True)
    spark, failed = open_spark(), 0
    for name in names or MAKERS:
        folder = Path(tempfile.mkdtemp(prefix="foreign-"))
        try:
            at = str(folder / name)
            MAKERS[name](spark, at)
            told = describe(spark, name, at)
        except (PySparkException, Py4JError) as error:  # the other tables are still wanted
            failed += 1
            print(f"{name}: {str(error)[:4000]}", file=sys.stderr, flush=True)
        else:
            pack(folder / name, TARGET / f"{name}.zip")
            text = json.dumps(told, ensure_ascii=False, indent=1, sort_keys=True)
            (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            print(name, (TARGET / f"{name}.zip").stat().st_size, told["features"], flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    spark.stop()
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
