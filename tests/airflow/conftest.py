"""These tests import Airflow and run in ``.venv-airflow``; those of ``live`` talk to one and run in ``.venv``."""

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("airflow") is None else ["live/*"]
