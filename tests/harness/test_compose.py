"""Variables in a compose file become what Compose makes of them, and a container's end ends all its processes."""

import os
import sys
import time

import pytest

from airflow_trial import REPOSITORY, is_alive
from compose_services import Service, interpolate, read_compose

PROGRAM = """
import subprocess, time
print(subprocess.Popen(["sleep", "600"], start_new_session=True).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "a"),
        ("$$x ${A:-b} ${EMPTY:-b} ${EMPTY-b} ${NONE:-b}", "$x a b  b"),
        ("{${NONE}}", "{}"),
        ("${A:?}/${EMPTY?}", "a/"),
    ],
)
def test_variables_are_put_in_as_compose_does(text, expected):
    assert interpolate(text, {"A": "a", "EMPTY": ""}) == expected


@pytest.mark.parametrize("text", ["${NONE:?}", "${EMPTY:?say it}", "${NONE?}"])
def test_what_has_to_be_set_is_missed(text):
    with pytest.raises(ValueError, match="has to be set"):
        interpolate(text, {"EMPTY": ""})


def test_our_compose_file_says_what_it_needs():
    needed = ("POSTGRES_PASSWORD", "JWT_SECRET", "API_SECRET", "FERNET_KEY", "BUNDLES")
    readme = (REPOSITORY / "deploy" / "README.md").read_text("utf-8")
    for name in needed:
        with pytest.raises(ValueError, match=name):
            read_compose(REPOSITORY / "deploy/compose.yaml", {other: "x" for other in needed if other != name})
        assert f"\n{name}=" in readme
    read_compose(REPOSITORY / "deploy/compose.yaml", dict.fromkeys(needed, "x"))


def test_the_end_of_a_service_is_the_end_of_what_it_started(tmp_path):
    home = tmp_path / "one"
    home.mkdir()
    service = Service("one", home, [sys.executable, "-c", PROGRAM], dict(os.environ), None)
    service.start()
    while not service.log.read_text():
        assert service.process.poll() is None
    child = int(service.log.read_text())
    assert is_alive(child)
    service.kill()
    until = time.monotonic() + 30
    while is_alive(child):
        assert time.monotonic() < until
