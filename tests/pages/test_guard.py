"""Who may read the pages: hosts, origins, methods, tokens, cookies, proxies, and the headers of every answer."""

from __future__ import annotations

import hmac
from unittest import mock

import pytest

from ordertrail.config import Config
from ordertrail.errors import UsageError
from ordertrail.web.access import COOKIE_S, access
from tests.pages.conftest import HOST, Open, Site

pytestmark = pytest.mark.browserless

TOKEN = "a-token-that-is-long-enough"
BEARER = {"authorization": f"Bearer {TOKEN}"}
LAN = access("0.0.0.0", token=TOKEN, names=("pages.example.com",))


@pytest.mark.parametrize("host", [HOST, "localhost", "LOCALHOST:1", "[::1]:8765", "192.0.2.7:80"])
def test_is_known_by_addresses_and_its_own_names(site: Site, host: str) -> None:
    assert site.get("/", host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8765", "127.0.0.1.evil.example", "", "a b"])
def test_another_name_for_this_address_gets_nothing(site: Site, host: str) -> None:
    answer = site.get("/", 421, host=host)
    assert "demo" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_pages_of_other_sites_get_nothing(site: Site, headers: dict[str, str]) -> None:
    assert "demo" not in site.get("/today.json", 403, **headers).text


def test_links_on_other_sites_can_be_followed_and_its_own_pages_may_ask(site: Site) -> None:
    site.get("/", **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    site.get("/today.json", origin=f"http://{HOST}")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_is_written(site: Site, method: str) -> None:
    assert site.client.request(method, "/").status_code == 405


def test_head_is_answered(site: Site) -> None:
    assert site.client.head("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/today.json", "/nothing", "/healthz", "/login", "/?tz=Mars/Olympus"])
def test_every_answer_forbids_what_pages_do_not_need(site: Site, path: str) -> None:
    headers = site.client.get(path, follow_redirects=False).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_refusals_have_the_headers_too(site: Site) -> None:
    assert site.get("/", 421, host="evil.example").headers["content-security-policy"]


def test_without_the_token_nothing_is_shown(demo: Config, open_site: Open) -> None:
    site = open_site(demo, LAN)
    for path in ("/", "/today.json", "/nothing"):
        assert "demo" not in site.get(path, 401).text
        assert "demo" not in site.get(path, 401, authorization="Bearer wrong").text
        assert "demo" not in site.get(path, 401, authorization=f"Basic {TOKEN}").text
    assert site.get("/healthz").json() == {"ok": True, "begun": True}
    assert site.get("/today.json", **BEARER).json()["pipeline"] == "demo"


def test_a_browser_gives_the_token_once(demo: Config, open_site: Open) -> None:
    site = open_site(demo, LAN)
    answer = site.get("/deliveries?state=held", 303, accept="text/html")
    login = answer.headers["location"]
    assert login == "/login?next=%2Fdeliveries%3Fstate%3Dheld"
    assert "demo" not in site.get(login).text.replace("demo · ordertrail", "").replace("<bdi>demo</bdi>", "")
    with mock.patch("ordertrail.web.application._WRONG_TOKEN_S", 0):
        assert site.client.post(login, content="token=wrong").status_code == 401
    given = site.client.post(login, content=f"token={TOKEN}", follow_redirects=False)
    assert (given.status_code, given.headers["location"]) == (303, "/deliveries?state=held")
    cookie = given.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert site.get("/today.json").json()["pipeline"] == "demo"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_login_leads_nowhere_else(demo: Config, open_site: Open, target: str) -> None:
    site = open_site(demo, LAN)
    given = site.client.post("/login", params={"next": target}, content=f"token={TOKEN}", follow_redirects=False)
    assert given.headers["location"] == "/"


def test_a_token_in_an_address_is_not_taken(demo: Config, open_site: Open) -> None:
    open_site(demo, LAN).get(f"/today.json?token={TOKEN}", 401)


def test_cookies_end_and_cannot_be_made_without_the_token() -> None:
    cookie = LAN.cookie(1000.0)
    assert LAN.is_cookie(cookie, 1000.0 + COOKIE_S - 1)
    assert not LAN.is_cookie(cookie, 1000.0 + COOKIE_S)
    until, _, signature = cookie.partition(".")
    assert not LAN.is_cookie(f"{int(until) + 1}.{signature}", 1000.0)
    assert not access("0.0.0.0", token=TOKEN[::-1]).is_cookie(cookie, 1000.0)
    assert not LAN.is_cookie("", 0.0)
    assert LAN.admits({}, cookie, 1000.0)


@pytest.mark.parametrize("given", ["", "w", "wrong" * 1000, TOKEN[:-1], "ü\udcff"])
def test_tokens_are_compared_in_constant_time(given: str) -> None:
    with mock.patch("hmac.compare_digest", wraps=hmac.compare_digest) as compared:
        assert not LAN.is_token(given)
    (left, right), _ = compared.call_args
    assert len(left) == len(right) == 32


def test_a_proxy_says_whom_it_admits(demo: Config, open_site: Open) -> None:
    site = open_site(demo, access("0.0.0.0", proxy_header="X-Forwarded-User"))
    assert "demo" not in site.get("/today.json", 401).text
    assert "demo" not in site.get("/today.json", 401, **{"x-forwarded-user": " "}).text
    site.get("/today.json", **{"x-forwarded-user": "ada"})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "pages.example.com", "::"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="everybody who reaches"):
        access(host)
    access(host, token=TOKEN)
    access(host, proxy_header="X-User")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_needs_none(host: str) -> None:
    assert access(host).admits({}, "", 0.0)


def test_short_tokens_are_refused_and_no_token_is_ever_shown() -> None:
    with pytest.raises(UsageError, match="5 characters") as caught:
        access("0.0.0.0", token="short")
    assert "short" not in str(caught.value)
    assert TOKEN not in repr(LAN)


@pytest.mark.parametrize(
    "path", ["/static/../serve.py", "/static/..%2f..%2fetc/passwd", "/static/ordertrail.css", "//etc/passwd", "/%00"]
)
def test_no_path_leads_out(site: Site, path: str) -> None:
    answer = site.client.get(path, follow_redirects=False)
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_static_files_are_named_by_their_content_and_stay(site: Site) -> None:
    page = site.get("/").text
    path = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    answer = site.get(path)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
