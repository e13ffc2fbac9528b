"""Names of functions: a module is looked for, never imported."""

import sys

import pytest

from aiflow_sdk.builder.entrypoint import resolve_entrypoint
from aiflow_sdk.errors import DefinitionError


@pytest.fixture
def roots(tmp_path):
    for path in (
        "jobs/__init__.py",
        "jobs/orders.py",
        "jobs/deep/__init__.py",
        "flat.py",
        "folder/inner.py",
        "folder/sub/low.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("raise RuntimeError('imported')\n")
    return [str(tmp_path / "nowhere"), str(tmp_path)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jobs.orders:main", "jobs.orders:main"),
        ("anything.at.all:f", "anything.at.all:f"),
        ("jobs.orders:Jobs.run", "jobs.orders:Jobs.run"),
        ("jobs.orders", "jobs.orders:main"),
        ("jobs.orders.clean", "jobs.orders:clean"),
        ("jobs.clean", "jobs:clean"),
        ("jobs.deep", "jobs.deep:main"),
        ("jobs.deep.clean", "jobs.deep:clean"),
        ("flat", "flat:main"),
        ("flat.clean", "flat:clean"),
        ("folder.inner", "folder.inner:main"),
        ("folder.sub.low", "folder.sub.low:main"),
        ("folder.sub.low.clean", "folder.sub.low:clean"),
        # A folder without __init__ holds no function, and what nobody finds is a module.
        ("folder.clean", "folder.clean:main"),
        ("not.there", "not.there:main"),
        ("  flat ", "flat:main"),
    ],
)
def test_text_names_a_module_or_a_function_of_one(roots, text, expected):
    before = set(sys.modules)
    assert resolve_entrypoint(text, roots) == (expected, None)
    assert not {"jobs", "flat", "folder"} & (set(sys.modules) - before)


def test_a_package_hides_folders_of_its_name_elsewhere(roots, tmp_path):
    other = tmp_path / "other"
    (other / "jobs").mkdir(parents=True)
    (other / "jobs" / "orders.py").touch()
    (tmp_path / "jobs" / "orders.py").unlink()
    assert resolve_entrypoint("jobs.orders", [str(other), *roots])[0] == "jobs:orders"


@pytest.mark.parametrize("text", ["", "a b", "a:", ":f", "a.b:", "1a:f", "a..b", "a:f:g", "a/b.py:f", "-m"])
def test_text_that_names_nothing_is_refused(roots, text):
    with pytest.raises(DefinitionError) as caught:
        resolve_entrypoint(text, roots)
    assert caught.value.code == "bad-entrypoint"


def test_a_function_behind_a_decorator_that_hides_it_runs_only_here():
    import functools

    def hiding(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    wrapped = hiding(test_text_that_names_nothing_is_refused)
    assert resolve_entrypoint(wrapped, []) == ("__here__:test_text_that_names_nothing_is_refused", wrapped)


def test_bound_methods_partials_and_objects_run_only_here():
    import functools

    class Doing:
        def do(self, rows):
            return rows

        def __call__(self, rows):
            return rows

    doing = Doing()
    assert resolve_entrypoint(doing.do, [])[0] == "__here__:do"
    assert resolve_entrypoint(doing, [])[0] == "__here__:Doing"
    assert resolve_entrypoint(functools.partial(print, 1), [])[0] == "__here__:partial"
    assert resolve_entrypoint(len, [])[0] == "__here__:len"


@pytest.mark.parametrize("value", [3, None, [], {"fn": 1}])
def test_what_is_no_function_is_refused(value):
    with pytest.raises(DefinitionError):
        resolve_entrypoint(value, [])
