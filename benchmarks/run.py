"""Runs the benchmarks that are named (all without a name) and prints one table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

from cases import (
    airflow,
    airflow_runs,
    audit,
    backfill,
    commands,
    compiling,
    jobs,
    lake,
    lake_environment,
    lineage,
    service,
    service_runs,
    upsert,
)
from measure import ASIDE, Row

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "imports": commands.imports,
    "help": commands.help_text,
    "small_job": jobs.small_job,
    "small_job_cold": jobs.small_job_cold,
    "spark_join": jobs.spark_join,
    "compile_1000": compiling.compile_1000,
    "compile_10000": compiling.compile_10000,
    "backfill": backfill.backfill,
    "memory": jobs.memory,
    "lake_environment": lake_environment.lake_environment,
    "lake_overwrite": lake.lake_overwrite,
    "lake_append": lake.lake_append,
    "lake_read": lake.lake_read,
    "lake_safety": lake.lake_safety,
    "lake_upsert": upsert.lake_upsert,
    "service_ingest": service.service_ingest,
    "service_lineage": lineage.service_lineage,
    "service_audit": audit.service_audit,
    "service_ready": service.service_ready,
    "service_runs": service_runs.service_runs,
    "airflow_parse": airflow.airflow_parse,
    "airflow_processor": airflow.airflow_processor,
    "airflow_10000": airflow.airflow_10000,
    "airflow_runs": airflow_runs.airflow_runs,
}


def main(names: list[str]) -> int:
    """Print the table and return 1 when a bound does not hold."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    try:
        for name in names or BENCHMARKS:
            print(f"… {name}", file=sys.stderr, flush=True)
            rows += BENCHMARKS[name]()
    finally:
        shutil.rmtree(ASIDE, ignore_errors=True)
    print(f"{'benchmark':<24} {'ours':>12} {'rival':>12} {'ratio':>8}  {'bound':<10}")
    for row in rows:
        verdict = "" if row.holds is None else "holds" if row.holds else "MISSED"
        print(f"{row.name:<24} {row.ours:>12} {row.rival:>12} {row.ratio:>8.2f}  {row.bound:<10} {verdict}")
    return int(any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
