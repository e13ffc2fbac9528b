"""Sign-in at a provider that really signs tokens."""

import base64
import hmac
import http.client
import json
import threading
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from access_trial import Person
from aiflow_service.access import Callers, Credential
from aiflow_service.access.oidc import Identity, Provider, ProviderSilent, Untrusted
from aiflow_service.access.roles import Role
from aiflow_service.access.signin import SignIn
from aiflow_service.database import open_database
from aiflow_service.database.migration import migrate
from aiflow_service.database.tables import tokens
from harness.openid import openid_provider
from service_trial import unique

HOUR = 3600
VERIFIED = {"email_verified": True}


@pytest.fixture
def fresh():
    with openid_provider() as found:
        yield found


@pytest.fixture
def checker(fresh):
    settings = SignIn(issuer=fresh.issuer, client_id="aiflow", groups={"eng": "growth:editor", "all": "*:viewer"})
    return Provider(settings)


def test_a_signed_token_names_somebody_with_the_roles_of_the_groups(fresh, checker):
    for algorithm in ("RS256", "ES256"):
        key = fresh.add_key(algorithm)
        found = checker.validate(
            fresh.token(key, sub=algorithm, email="ana@x", **VERIFIED, groups=["eng", "all", "other", 7])
        )
        assert (found.subject, found.name, dict(found.roles), found.everywhere) == (
            algorithm,
            "ana@x",
            {"growth": Role.EDITOR},
            Role.VIEWER,
        )
        checker._asked_at = float("-inf")  # as if the pause between two unknown keys were over


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "ceo@x", "email_verified": True}, "ceo@x"),
        ({"email": "ceo@x"}, "mallory"),
        ({"email": "ceo@x", "email_verified": False}, "mallory"),
        ({"email": "ceo@x", "email_verified": "true"}, "mallory"),
        ({"email": "", "email_verified": True}, "mallory"),
        ({"email": ["ceo@x"], "email_verified": True}, "mallory"),
        ({"email_verified": True}, "mallory"),
        ({"preferred_username": "ceo@x", "name": "ceo@x"}, "mallory"),
    ],
)
def test_nobody_is_named_by_what_nobody_has_verified(fresh, checker, claims, name):
    assert checker.validate(fresh.token(sub="mallory", **claims)).name == name


def test_the_audit_has_no_name_that_nobody_has_verified(company):
    subject = unique("mallory")
    forged = company.provider.token(sub=subject, email="boss@company.com", groups=["data-eng"])
    Person(company.service, forged).get("/api/v1/whoami")
    assert company.admin.get("/api/v1/audit", actor="user:boss@company.com")["items"] == []
    (row,) = company.admin.get("/api/v1/audit", actor=f"user:{subject}", action="sign-in.token")["items"]
    assert row["result"] == "done"


def unsigned(issuer):
    parts = ({"alg": "none", "typ": "JWT"}, {"iss": issuer, "aud": "aiflow", "sub": "ana", "iat": 1, "exp": 2**40})
    return ".".join(encoded(json.dumps(one).encode()) for one in parts) + "."


def encoded(raw):
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def by_the_public_key(provider):
    """A token signed as with a password, which is the public key that everybody may have."""
    shown = json.dumps(provider.public_keys()[0]).encode()
    told = {"iss": provider.issuer, "aud": "aiflow", "sub": "ana", "iat": time.time(), "exp": time.time() + HOUR}
    header = {"alg": "HS256", "typ": "JWT", "kid": next(iter(provider.keys))}
    text = ".".join(encoded(json.dumps(one).encode()) for one in (header, told))
    return f"{text}.{encoded(hmac.digest(shown, text.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "forge",
    [
        lambda p: p.token(aud="another-service"),
        lambda p: p.token(aud=["aiflow", "other"], azp="other"),
        lambda p: p.token(iss="https://elsewhere.com"),
        lambda p: p.token(exp=time.time() - 60),
        lambda p: p.token(iat=time.time() + HOUR, exp=time.time() + 2 * HOUR),
        lambda p: p.token(nbf=time.time() + HOUR),
        lambda p: p.token(sub=None),
        lambda p: p.token(exp=None),
        lambda p: p.token()[:-8] + "AAAAAAAA",
        lambda p: p.token().replace(".", ".e30", 1),
        lambda p: unsigned(p.issuer),
        by_the_public_key,
        lambda p: "a.b.c",
        lambda p: "..",
    ],
    ids=lambda forge: getattr(forge, "__name__", "?"),
)
def test_a_token_that_proves_nothing_is_refused(fresh, checker, forge):
    with pytest.raises(Untrusted):
        checker.validate(forge(fresh))


def test_keys_are_replaced_and_forged_ones_cause_no_flood(fresh, checker):
    old = fresh.token()
    checker.validate(old)
    (first,) = fresh.keys
    new = fresh.add_key("ES256")
    checker._asked_at = float("-inf")
    checker.validate(fresh.token(new))
    del fresh.keys[first]
    checker.validate(old)  # known for five minutes at most
    checker._keys_at -= HOUR / 2
    checker._asked_at = float("-inf")
    with pytest.raises(Untrusted):
        checker.validate(old)
    asked = len(fresh.asked)
    stranger = fresh.add_key()
    forged = fresh.token(stranger)
    del fresh.keys[stranger]
    for _ in range(20):
        with pytest.raises(Untrusted):
            checker.validate(forged)
    assert len(fresh.asked) - asked <= 1


def test_a_silent_provider_is_no_reason_to_let_nobody_in_for_an_hour(fresh, checker):
    token = fresh.token(exp=time.time() + 9 * HOUR)
    checker.validate(token)
    fresh.is_silent = True
    checker._keys_at -= HOUR / 2
    checker._asked_at = float("-inf")
    checker.validate(token)
    checker._keys_at -= HOUR
    checker._asked_at = float("-inf")
    with pytest.raises(ProviderSilent):
        checker.validate(token)


def test_while_the_provider_takes_its_time_nobody_waits_whose_key_is_known(fresh, checker):
    token = fresh.token(exp=time.time() + 9 * HOUR)
    checker.validate(token)
    forged = fresh.token(fresh.add_key())
    checker._keys_at -= HOUR / 2
    checker._asked_at = float("-inf")
    fresh.answers.clear()
    asks = threading.Thread(target=checker.validate, args=(token,))
    asks.start()
    while fresh.asked[-1] != "/keys" or len(fresh.asked) < 3:
        time.sleep(0.01)
    checker.validate(token)
    with pytest.raises(ProviderSilent):
        checker.validate(forged)
    assert asks.is_alive()
    fresh.answers.set()
    asks.join()


def test_a_provider_that_sends_elsewhere_is_not_followed(fresh, checker):
    with openid_provider() as other:
        fresh.elsewhere = other.issuer
        with pytest.raises(ProviderSilent):
            checker.authorization_address(state="s", nonce="n", verifier="v", redirect="http://localhost/")
        fresh.elsewhere = None
        checker.authorization_address(state="s", nonce="n", verifier="v", redirect="http://localhost/")
        fresh.elsewhere = other.issuer
        with pytest.raises((ProviderSilent, Untrusted)):
            checker.redeem("code", verifier="v", nonce="n", redirect="http://localhost/")
        assert other.asked == []


def test_sessions_that_are_over_are_forgotten(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'service.db'}")
    migrate(database)
    callers = Callers(database)
    people = [Identity("https://x", name, name, {}, Role.VIEWER, 1) for name in ("ana", "bea", "carl")]
    secrets = [callers.begin_session(one) for one in people[:2]]
    callers.end_session(secrets[0])
    with database.writing() as writing:
        writing.connection.execute(tokens.update().where(tokens.c.name == "bea").values(expires_at=1))
    callers.begin_session(people[2])
    with database.reading() as connection:
        assert list(connection.execute(sa.select(tokens.c.name)).scalars()) == ["carl"]
    database.close()


def test_of_two_tokens_of_one_second_a_sign_in_counts(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'service.db'}")
    migrate(database)
    callers = Callers(database)
    before = Identity("https://x", "ana", "ana", {}, Role.ADMIN, 5_000_000)
    callers._signed(before)
    session = callers.begin_session(replace(before, everywhere=Role.VIEWER))
    assert callers.find(Credential(session, is_session=True)).everywhere == Role.VIEWER
    assert callers._signed(before).everywhere == Role.VIEWER
    database.close()


def test_a_providers_token_is_taken_with_what_its_groups_give(company):
    token = company.provider.token(sub="eng-1", groups=["data-eng"], email="eng@company.com", **VERIFIED)
    somebody = Person(company.service, token)
    told = somebody.get("/api/v1/whoami")
    assert (told["name"], told["teams"]) == ("eng@company.com", [{"name": "growth", "role": "editor"}])
    assert somebody.ask("GET", "/metrics").status == 403
    later = company.provider.token(sub="eng-1", groups=[], iat=time.time() + 5)
    assert Person(company.service, later).ask("GET", "/api/v1/whoami").json()["code"] == "no-team"
    assert somebody.ask("GET", "/api/v1/whoami").json()["code"] == "no-team"  # an older token brings nothing back
    forged = Person(company.service, company.provider.token(aud="other"))
    assert forged.ask("GET", "/api/v1/whoami").status == 401


def test_an_administrator_by_settings_needs_a_verified_address(company):
    for verified, status in ((True, 200), (False, 403)):
        token = company.provider.token(sub=f"ceo-{verified}", email="ceo@company.com", email_verified=verified)
        assert Person(company.service, token).ask("GET", "/metrics").status == status


def test_a_sign_in_is_newer_than_a_token_from_before_it(company):
    subject = unique("moved")
    before = Person(company.service, company.provider.token(sub=subject, groups=["data-eng"], iat=time.time() - 60))
    assert before.get("/api/v1/whoami")["teams"] == [{"name": "growth", "role": "editor"}]
    other = Person(company.service, company.provider.token(sub=subject, groups=["data-eng"], iat=time.time() - 30))
    company.provider.person = {"sub": subject, "groups": []}
    session = sign_in(company)
    assert browse(f"{company.service.address}/api/v1/whoami", session)[0] == 403
    for person in (before, other):
        assert person.ask("GET", "/api/v1/whoami").json()["code"] == "no-team"
    company.provider.person = {"sub": subject, "groups": ["platform"], "iat": time.time() - 45}
    assert (
        browse(f"{company.service.address}/api/v1/whoami", sign_in(company))[0] == 403
    )  # an old answer brings nothing


def sign_in(company):
    """Sign in by a browser as the provider's present person, and return the session's cookie."""
    _, headers, (kept,), _ = browse(f"{company.service.address}/api/v1/sign-in/begin")
    _, headers, _, _ = browse(headers["Location"])
    status, _, cookies, _ = browse(headers["Location"], kept)
    assert status == 302
    (session,) = [one for one in cookies if one.startswith("aiflow_session=aiflow_")]
    return session


def browse(address, cookie=None, method="GET", **headers):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request(method, target, headers={**({"Cookie": cookie} if cookie else {}), **headers})
    response = connection.getresponse()
    body, cookies = response.read(), [one.split(";")[0] for one in response.headers.get_all("Set-Cookie") or []]
    connection.close()
    return response.status, response.headers, cookies, body


def test_a_browser_signs_in_with_pkce_and_out_again(company):
    home = company.service.address
    company.provider.person = {"sub": "bea", "email": "bea@company.com", **VERIFIED, "groups": ["platform"]}
    status, headers, (kept,), _ = browse(f"{home}/api/v1/sign-in/begin?to=/runs")
    assert status == 302
    query = parse_qs(urlsplit(headers["Location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    _, headers, _, _ = browse(headers["Location"])
    back = headers["Location"]
    assert browse(back)[0] == 401  # another browser, which did not begin it
    assert browse(back.replace("state=", "state=x"), kept)[0] == 401
    status, headers, cookies, _ = browse(back, kept)
    assert (status, headers["Location"]) == (302, "/runs")
    assert "HttpOnly" in headers["Set-Cookie"] or any("HttpOnly" in one for one in headers.get_all("Set-Cookie"))
    (session,) = [one for one in cookies if one.startswith("aiflow_session=aiflow_")]
    assert browse(back, kept)[0] == 401  # a code is good once
    status, _, _, body = browse(f"{home}/api/v1/whoami", session)
    assert (status, json.loads(body)["everywhere"]) == (200, "admin")
    secret = session.partition("=")[2]
    assert Person(company.service, secret).ask("GET", "/api/v1/whoami").status == 401  # a cookie is no token
    for foreign in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.com"}, {}):
        assert browse(f"{home}/api/v1/lineage", session, "POST", **foreign)[0] == 403
        assert browse(f"{home}/api/v1/sign-in/end", session, "POST", **foreign)[0] == 403
    assert browse(f"{home}/api/v1/sign-in/end", session, "POST", Sec_Fetch_Site="same-origin")[0] == 200
    assert browse(f"{home}/api/v1/whoami", session)[0] == 401
    rows = company.admin.get("/api/v1/audit", actor="user:bea@company.com", oldest_first="true")["items"]
    assert [row["action"] for row in rows][-2:] == ["session.made", "session.ended"]
    assert secret not in str(rows)
    foreign = company.admin.get("/api/v1/audit", actor="stranger", result="denied", limit=500)["items"]
    assert {"POST /api/v1/lineage", "POST /api/v1/sign-in/end"} <= {row["object_name"] for row in foreign}


@pytest.mark.parametrize("to", ["https://evil.com", "//evil.com", "/\\evil.com", "%0d%0aSet-Cookie:x", "/%0d%0ax"])
def test_sign_in_leads_to_no_other_site(company, to):
    assert browse(f"{company.service.address}/api/v1/sign-in/begin?to={to}")[0] == 422


def test_a_provider_may_send_along_what_it_likes(company):
    home = f"{company.service.address}/api/v1/sign-in"
    told = "state=forged&code=x&session_state=y&iss=https://login.company.com"
    assert browse(f"{home}/return?{told}")[0] == 401  # and is not refused for what nobody reads
    assert browse(f"{home}/begin?too=/runs")[0] == 422
