"""A service on each database, started once for all tests of a process."""

from collections.abc import Callable, Iterator

import pytest

from service_trial import Service, running_service


@pytest.fixture(scope="session")
def _services(request, tmp_path_factory) -> Iterator[Callable[[str], Service]]:
    made: dict[str, Service] = {}
    open_ones = []

    def start(kind: str) -> Service:
        if kind not in made:
            folder = tmp_path_factory.mktemp(f"service-{kind}")
            manager = running_service(folder, _database(request, kind, folder))
            made[kind] = manager.__enter__()
            open_ones.append(manager)
        return made[kind]

    yield start
    for manager in open_ones:
        manager.__exit__(None, None, None)


def _database(request, kind, folder):
    return f"sqlite:///{folder / 'service.db'}" if kind == "sqlite" else request.getfixturevalue("postgres").database()


@pytest.fixture(params=["sqlite", "postgres"])
def service(request, _services) -> Service:
    """The service that all tests share: use names of your own."""
    return _services(request.param)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path) -> str:
    """The address of an empty database."""
    return _database(request, request.param, tmp_path)
