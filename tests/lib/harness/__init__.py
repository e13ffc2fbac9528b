"""What the lake's tests stand on: stores to write to, faults to put between, and deaths at any step.

Independent of aiflow: nothing here imports it. ``fixtures`` offers all of it to pytest.
"""
