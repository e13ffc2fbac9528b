"""``aiflow login`` at a provider that really signs tokens: by a browser, on another device, renewed, and what fails."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from urllib.error import HTTPError
from urllib.parse import unquote

import pytest

from access_trial import write_settings
from aiflow_sdk.cli import main
from aiflow_sdk.errors import AccessError, ConfigurationError, ReceiverError
from aiflow_sdk.service.flows import BrowserFlow, sign_in_on_device
from aiflow_sdk.service.logins import find_login, forget_login, has_login, keep_login, keep_signed_login, logins_file
from aiflow_sdk.service.provider import SignIn, Tokens, find_provider
from aiflow_service.access.oidc import Provider as Checker
from aiflow_service.access.oidc import Untrusted
from aiflow_service.app.file import read_settings_file
from harness.openid import openid_provider
from service_trial import unique, wait_until

SERVICE = "https://service.company.com"
DENIED = "access_denied"


@pytest.fixture
def company(_companies):
    """The company, whose provider is again as it was once the test is over."""
    found = _companies("sqlite")
    provider = found.provider
    before = {one.name: getattr(provider, one.name) for one in fields(provider) if not one.name.startswith("_")}
    provider.person = {"sub": unique("ana"), "groups": ["data-eng"]}
    yield found
    for name, value in before.items():
        setattr(provider, name, value)


@pytest.fixture
def fresh():
    with openid_provider() as found:
        yield found


@pytest.fixture
def sign_in(fresh) -> SignIn:
    return SignIn(fresh.issuer, fresh.client_id, ("openid", "email"))


@pytest.fixture
def root(company, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{company.service.address}"\n')
    return tmp_path


class Typed:
    """``aiflow login`` in a process of its own, with what it has said until now."""

    def __init__(self, root, *words: str, **variables: str) -> None:
        command = [sys.executable, "-m", "aiflow_sdk.cli", "-C", str(root), "login", *words]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        self.said = ""

    def line(self, pattern: str) -> str:
        """Wait for a line of standard error, and return what the pattern finds in it."""
        while text := self.process.stderr.readline():
            self.said += text
            if found := re.search(pattern, text):
                return found[0]
        raise AssertionError(self.said)

    def end(self, code: int = 0) -> str:
        out, err = self.process.communicate(timeout=60)
        self.said += err
        assert self.process.returncode == code, (out, self.said)
        return out


def browse(address: str) -> str:
    """Open a page as a browser does, redirects followed, and return what is shown."""
    try:
        with urllib.request.urlopen(address, timeout=20) as page:
            return page.read().decode()
    except HTTPError as error:
        with error:
            return error.read().decode()


def test_a_browser_opens_and_its_login_is_kept_for_its_owner_alone(company, root, capsys):
    opener = root / "browser"
    opener.write_text(f"#!{sys.executable}\nimport sys, urllib.request\nurllib.request.urlopen(sys.argv[1])\n")
    opener.chmod(0o755)
    told = json.loads(Typed(root, "--json", BROWSER=f"{opener} %s").end())
    assert told["teams"] == [{"name": "growth", "role": "editor"}]
    assert told["is_renewed"] is False
    assert stat.S_IMODE(logins_file().stat().st_mode) == 0o600
    assert main(["-C", str(root), "team", "list", "--json"]) == 0
    assert "growth" in capsys.readouterr().out
    assert has_login(company.service.address)
    assert main(["-C", str(root), "login", "--forget"]) == 0
    assert not has_login(company.service.address)


def test_without_a_browser_a_code_is_typed_on_another_device(company, root):
    company.provider.renews = True
    typed = Typed(root)
    typed.line("ABCD-EFGH")
    assert typed.line("http.*") == f"{company.provider.issuer}/device"
    company.provider.type_code()
    assert "then it is renewed by itself" in typed.end()
    kept = json.loads(logins_file().read_text())[company.service.address]
    assert kept["refresh_token"]
    assert kept["refresh_token"] not in typed.said


def test_a_provider_without_devices_is_gone_to_by_a_page_that_is_shown(company, root):
    company.provider.has_devices = False
    typed = Typed(root, "--no-browser")
    page = typed.line("http.*/authorize.*")
    assert "aiflow goes on in the terminal" in browse(page)
    assert "logged in to" in typed.end()


def test_who_says_no_is_told_and_nothing_is_kept(company, root):
    company.provider.denies = True
    company.provider.has_devices = False
    typed = Typed(root, "--json")
    browse(typed.line("http.*/authorize.*"))
    error = json.loads(typed.end(1))["error"]
    assert (error["code"], DENIED in error["message"]) == ("login-denied", True)
    assert not logins_file().exists()


def test_ctrl_c_ends_it_and_nothing_is_kept(company, root):
    typed = Typed(root)
    typed.line("ABCD-EFGH")
    typed.process.send_signal(signal.SIGINT)
    typed.end(130)
    assert "interrupted" in typed.said
    assert "Traceback" not in typed.said
    assert not logins_file().exists()


def test_who_is_in_no_team_and_a_silent_provider_are_told(company, root, capsys):
    company.provider.is_silent = True
    assert main(["-C", str(root), "login", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["retryable"]) == ("provider-unreachable", True)
    assert (error["where"]["path"], error["where"]["about"]) == ("aiflow.toml", "environments.dev.service")
    company.provider.is_silent = False
    company.provider.person = {"sub": unique("nobody")}
    typed = Typed(root, "--json")
    typed.line("ABCD-EFGH")
    company.provider.type_code()
    assert "is in no team yet" in json.loads(typed.end(1))["error"]["message"]
    assert not logins_file().exists()


def test_a_port_that_is_taken_is_told(company, root, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["-C", str(root), "login", "--json", "--port", str(port)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], f"port {port}" in error["message"]) == ("port-taken", True)


def test_an_answer_of_another_sign_in_changes_nothing(fresh, sign_in):
    with BrowserFlow(find_provider(sign_in), sign_in) as flow, ThreadPoolExecutor() as pool:
        waiting = pool.submit(flow.wait, 20)
        home = re.search(r"redirect_uri=([^&]+)", flow.page)[1]
        home = unquote(home)
        assert "begin again" in browse(f"{home}?code=stolen&state=forged")
        assert "begin again" in browse(f"{home}?error=access_denied")
        assert "nothing here" in browse(f"{home.rpartition('/')[0]}/favicon.ico")
        assert not waiting.done()
        browse(flow.page)
        assert waiting.result().subject == "ana"


def test_time_runs_out(fresh, sign_in):
    provider = find_provider(sign_in)
    with BrowserFlow(provider, sign_in) as flow, pytest.raises(AccessError, match="within 1 seconds") as caught:
        flow.wait(1)
    assert (caught.value.code, caught.value.retryable) == ("login-timeout", True)
    fresh.device_seconds = 1
    with pytest.raises(AccessError, match="nobody has signed in"):
        sign_in_on_device(provider, sign_in, lambda page, code: None, 60)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "another-client"}, "for another audience"),
        ({"aud": ["other", "third"]}, "for another audience"),
        ({"iss": "https://elsewhere.com"}, "another issuer's"),
        ({"nonce": "of-another"}, "of another sign-in"),
        ({"exp": 1}, "over already"),
        ({"exp": "tomorrow"}, "over already"),
    ],
)
def test_a_token_of_something_else_is_not_taken(fresh, sign_in, claims, why):
    fresh.token_claims = claims
    with BrowserFlow(find_provider(sign_in), sign_in) as flow, ThreadPoolExecutor() as pool:
        waiting = pool.submit(flow.wait, 20)
        browse(flow.page)
        with pytest.raises(AccessError, match=why):
            waiting.result()


def test_a_device_waits_as_long_as_the_provider_says(fresh, sign_in, monkeypatch):
    monkeypatch.setattr("aiflow_sdk.service.flows._SLOWER_SECONDS", 0.1)  # five in truth
    provider = find_provider(sign_in)
    fresh.device_answers = ["authorization_pending", "slow_down"]
    assert sign_in_on_device(provider, sign_in, lambda page, code: fresh.type_code(), 30).subject == "ana"
    for answer, error in ((DENIED, DENIED), ("expired_token", "nobody has signed in"), ("invalid_grant", "refuses")):
        fresh.device_answers = [answer]
        with pytest.raises(AccessError, match=error):
            sign_in_on_device(provider, sign_in, lambda page, code: None, 30)


def test_a_provider_that_is_away_while_a_device_waits_is_asked_again(fresh, sign_in, monkeypatch):
    monkeypatch.setattr("aiflow_sdk.service.flows._SLOWER_SECONDS", 0.1)  # five in truth

    def leave(page: str, code: str) -> None:
        fresh.type_code()
        fresh.is_silent = True

    def leave_for_a_while(page: str, code: str) -> None:
        leave(page, code)
        threading.Timer(1.5, lambda: setattr(fresh, "is_silent", False)).start()

    provider = find_provider(sign_in)
    assert sign_in_on_device(provider, sign_in, leave_for_a_while, 30).subject == "ana"
    with pytest.raises(ReceiverError, match="cannot be reached"):
        sign_in_on_device(provider, sign_in, leave, 1.3)


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://elsewhere.com"},
        {"token_endpoint": "http://elsewhere.com/token"},
        {"authorization_endpoint": 7},
        {"device_authorization_endpoint": "ftp://x"},
    ],
    ids=str,
)
def test_a_provider_that_is_another_or_would_send_secrets_in_the_open_is_refused(fresh, sign_in, monkeypatch, change):
    told = {**fresh.discovery(), **change}
    monkeypatch.setattr(fresh, "discovery", lambda: told)  # a provider that tells something else of itself
    with pytest.raises(AccessError) as caught:
        find_provider(sign_in)
    assert "whoever runs the service should look at its sign-in settings" in caught.value.hint


def test_a_provider_that_is_away_or_sends_elsewhere_is_told(fresh, sign_in):
    with openid_provider() as other:
        fresh.elsewhere = other.issuer
        with pytest.raises(ReceiverError, match="answered 302"):
            find_provider(sign_in)
        assert other.asked == []
    for address in (other.issuer, "http://[x"):
        with pytest.raises((ReceiverError, AccessError)):
            find_provider(SignIn(address, "aiflow", ()))


@pytest.fixture
def renewing(fresh, sign_in, tmp_path, monkeypatch):
    """A login that is over, at a provider that renews."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    fresh.renews = True
    provider = find_provider(sign_in)
    tokens = sign_in_on_device(provider, sign_in, lambda page, code: fresh.type_code(), 30)

    def keep(seconds: float, **more) -> None:
        told = {"token": tokens.token, "subject": tokens.subject, "refresh_token": tokens.refresh_token, **more}
        keep_signed_login(SERVICE, provider, Tokens(**told, expires_at=time.time() + seconds))

    keep(-1)
    return fresh, keep


def test_a_token_is_renewed_once_by_whoever_comes_first(renewing):
    fresh, _ = renewing
    before = len(fresh.asked)
    code = f"from aiflow_sdk.service.logins import find_login; print(find_login({SERVICE!r}))"
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {child.communicate(timeout=60)[0].strip() for child in children}
    assert len(found) == 1
    assert next(iter(found)).count(".") == 2
    assert fresh.asked[before:] == ["/token"]  # a refresh token is good once
    assert find_login(SERVICE) in found


def test_a_token_that_cannot_be_renewed_is_used_to_its_end_and_then_told(renewing):
    fresh, keep = renewing
    keep(30)
    kept = find_login(SERVICE)  # renewed ahead of its end
    assert fresh.asked[-1] == "/token"
    keep(30, refresh_token="taken-back-by-the-provider")
    assert find_login(SERVICE)
    fresh.is_silent = True
    keep(30)
    assert find_login(SERVICE)
    keep(-1)
    with pytest.raises(ReceiverError, match="cannot be reached") as away:
        find_login(SERVICE)
    assert SERVICE in away.value.where.about
    fresh.is_silent = False
    for more in ({"refresh_token": "taken-back-by-the-provider"}, {"refresh_token": None}):
        keep(-1, **more)
        with pytest.raises(AccessError, match="was over at") as caught:
            find_login(SERVICE)
        assert (caught.value.code, "aiflow login" in caught.value.hint) == ("login-over", True)
        assert str(kept) not in str(caught.value)


@contextmanager
def hanging(fresh):
    """A renewal under way, its provider asked and not answering until the block ends."""
    asked = fresh.asked.count("/token")
    fresh.answers.clear()
    with ThreadPoolExecutor() as pool:
        try:
            under_way = pool.submit(find_login, SERVICE)
            wait_until(lambda: fresh.asked.count("/token") > asked)
            yield under_way
        finally:
            fresh.answers.set()


def test_a_login_that_is_forgotten_while_it_is_renewed_stays_forgotten(renewing):
    fresh, _ = renewing
    with hanging(fresh) as under_way:
        assert forget_login(SERVICE)
    with pytest.raises(AccessError, match="was forgotten while") as caught:
        under_way.result()
    assert caught.value.code == "login-over"
    assert not has_login(SERVICE)


def test_a_login_that_is_kept_while_an_earlier_one_is_renewed_stands(renewing):
    fresh, _ = renewing
    with hanging(fresh) as under_way:
        keep_login(SERVICE, "aiflow_of_somebody_else")
        keep_login("https://another.company.com", "aiflow_y")
    assert under_way.result() == find_login(SERVICE) == "aiflow_of_somebody_else"
    assert find_login("https://another.company.com") == "aiflow_y"


def test_while_a_token_is_good_nobody_waits_for_who_renews_it(renewing):
    fresh, keep = renewing
    keep(30)
    before = json.loads(logins_file().read_text())[SERVICE]["token"]
    with hanging(fresh) as under_way:
        assert find_login(SERVICE) == before  # else this would not come back before the provider answers
        assert not under_way.done()
    assert find_login(SERVICE) == under_way.result() != before


def test_a_renewed_token_of_somebody_else_is_not_taken(renewing):
    fresh, _ = renewing
    fresh.token_claims = {"sub": "mallory"}
    with pytest.raises(AccessError, match="somebody else's"):
        find_login(SERVICE)


@pytest.mark.parametrize("kept", [{}, {"token": 1}, {"token": "a", "expires_at": "soon"}, [], None, 7])
def test_a_file_that_holds_something_else_is_not_used(tmp_path, monkeypatch, kept):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    logins_file().parent.mkdir()
    logins_file().write_text(json.dumps({SERVICE: kept}))
    logins_file().chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        find_login(SERVICE)
    assert caught.value.code == "unsafe-login"


def test_a_command_line_that_is_another_client_is_told_and_taken(fresh, tmp_path):
    settings = read_settings_file(write_settings(tmp_path, fresh, command_line_client_id="aiflow-cli")).sign_in
    assert settings is not None
    checker = Checker(settings)
    for audience in ("aiflow", "aiflow-cli", ["aiflow-cli", "other"]):
        assert checker.validate(fresh.token(aud=audience, azp="aiflow-cli")).subject == "ana"
    with pytest.raises(Untrusted, match="Audience doesn't match"):
        checker.validate(fresh.token(aud="other"))
    with pytest.raises(Untrusted, match="made for another client"):
        checker.validate(fresh.token(aud=["aiflow-cli", "other"], azp="stranger"))


def test_the_service_says_how_people_sign_in_to_whoever_asks(company):
    told = company.service.get("/api/v1/sign-in")
    assert (told["issuer"], told["command_line_client_id"]) == (company.provider.issuer, "aiflow")
