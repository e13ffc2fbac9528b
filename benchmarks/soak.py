"""Sends events to a service for long and prints what it has of memory meanwhile: it is to stay what it was.

``python benchmarks/soak.py --events 1_000_000``, part of ``make soak``. Its status tells whether the last third took
more than the second, beyond what measuring has of noise.
"""

from __future__ import annotations

import argparse
import sys

from cases.service import ingest_load
from cases.service_process import fresh_databases, service

STEPS = 12
BATCH = 100
_GROWTH = 1.1


def main() -> int:
    """Print the memory over the events, on each database; 1 where it grows."""
    parser = argparse.ArgumentParser(description="Send events to the metadata service and watch its memory.")
    parser.add_argument("--events", type=int, default=1_000_000, help="on each database (default %(default)s)")
    events = parser.parse_args().events
    grown = False
    with fresh_databases() as databases:
        for kind, address in databases:
            with service(address) as process:
                found: list[float] = []
                sent = 0
                while sent < events:
                    rate, times = ingest_load(process.port, 4, BATCH, 600.0, events // STEPS // BATCH or 1, sent)
                    sent += len(times) * BATCH
                    found.append(process.megabytes_now)
                    print(f"{kind:<11} {sent:>9} events {rate:>6.0f}/s {found[-1]:>6.0f} MB", flush=True)
            third = len(found) // 3
            before, after = max(found[third : 2 * third], default=0.0), max(found[2 * third :])
            grown |= third > 0 and after > before * _GROWTH
            print(f"{kind:<11} second third {before:.0f} MB, last third {after:.0f} MB", flush=True)
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
