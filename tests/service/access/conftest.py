"""A signed-in service on each database, shared by all tests of access."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from access_trial import Company, Person, admin_token, pipeline_documents, write_settings
from harness.openid import OpenIdProvider, openid_provider
from service_trial import running_service

GROUPS = {"data-eng": "growth:editor", "auditors": "*:viewer", "platform": "*:admin"}


@pytest.fixture(scope="session")
def provider() -> Iterator[OpenIdProvider]:
    """The provider that people sign in at."""
    with openid_provider() as found:
        yield found


@pytest.fixture(scope="session")
def documents(tmp_path_factory) -> dict[str, str]:
    """The definition and the plan of a pipeline."""
    return pipeline_documents(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def _companies(request, tmp_path_factory, provider) -> Iterator[Callable[[str], Company]]:
    made: dict[str, Company] = {}
    with ExitStack() as stack:

        def start(kind: str) -> Company:
            if kind not in made:
                folder = tmp_path_factory.mktemp(f"company-{kind}")
                address = f"sqlite:///{folder / 'service.db'}"
                database = address if kind == "sqlite" else request.getfixturevalue("postgres").database()
                secret = admin_token(database)
                settings = write_settings(folder, provider, groups=GROUPS, admins=["ceo@company.com"])
                service = stack.enter_context(running_service(folder, database, "--settings", str(settings)))
                made[kind] = Company(service, Person(service, secret), provider)
            return made[kind]

        yield start


@pytest.fixture(params=["sqlite", "postgres"])
def company(request, _companies) -> Company:
    """The company on one of the databases; make teams of your own."""
    return _companies(request.param)
