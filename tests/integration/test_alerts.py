"""Alerts from end to end: real mail with TLS and login, and providers of text messages and chats as stubs."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from apprise.plugins.slack import NotifySlack
from apprise.plugins.twilio import NotifyTwilio
from deltalake import DeltaTable

from ordertrail.delta.snapshot import Snapshot
from ordertrail.engines.local import incidents
from ordertrail.engines.local.incidents import incidents_in
from ordertrail.rules.incidents import Incident
from tests.commands import Call, call_in
from tests.harness import NOON_NS

pytestmark = [
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # apprise imports it
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),  # TLS from the first byte
]

BAD = "order_num,status\n1,X\n"
GOOD = (
    "order_num,tracking_num,pck_recieved_date,package_deliver_date,status,address,last_update_timestamp\n"
    "0001,1Z1,2024-11-20,,PICKED_UP,1 Elm St,2024-11-20 10:00:00\n"
)
PASSWORD = "correct-horse-battery"
SID, AUTH = "AC" + "7" * 32, "9f86d081884c7d659a2feaa0c55ad015"
SLACK = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@dataclass
class Web:
    """A server of the web that answers what it is told to, and keeps what it was asked."""

    port: int = 0
    status: int = 200
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.asked.append((self.path, dict(self.headers), body))
            self.send_response(found.status)
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


class Mailbox:
    """Keeps the mail that an SMTP server takes."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], str, str]] = []

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.original_content or b"")
        (part,) = [one for one in mail.walk() if one.get_content_type() == "text/plain"]
        text = part.get_payload(decode=True)
        assert isinstance(text, bytes)
        subject = "".join(str(mail["Subject"]).splitlines())
        self.mails.append((str(envelope.mail_from), list(envelope.rcpt_tos), subject, text.decode()))
        return "250 OK"


def login(_: SMTP, __: Session, ___: Envelope, mechanism: str, data: object) -> AuthResult:
    assert isinstance(data, LoginPassword)
    # What is not handled here the server answers: with 535 when the password is wrong.
    return AuthResult(success=(data.login, data.password) == (b"desk", PASSWORD.encode()), handled=False)


@pytest.fixture
def mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mailbox, int]]:
    """A mail server with TLS from the first byte, and login; its authority is one that this process trusts."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    box = Mailbox()
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(
        box, "localhost", port, ssl_context=context, authenticator=login, auth_required=True, auth_require_tls=False
    )
    server.start()
    yield box, port
    server.stop()


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    return call_in(tmp_path / "orders", monkeypatch)


def alerts(*tables: str) -> None:
    """Add `[[alerts]]` to the config."""
    with Path("ordertrail.toml").open("a") as file:
        file.write("".join(f"\n[[alerts]]\n{one}\n" for one in tables))


def pipeline_setting(line: str) -> None:
    path = Path("ordertrail.toml")
    name = line.partition(" =")[0]
    path.write_text(re.sub(rf"(?m)^{name} = .*$", line, path.read_text(), count=1))


def drop(name: str, text: str) -> None:
    file = Path("data/source", name)
    file.write_text(text)
    os.utime(file, ns=(NOON_NS, NOON_NS))


def test_mail_goes_with_tls_and_login(call: Call, mail: tuple[Mailbox, int]) -> None:
    box, port = mail
    ends = "mode=ssl&from=orders@localhost&to=desk@example.com"
    alerts(f'name = "mail"\nurl = "mailtos://desk:{PASSWORD}@localhost:{port}?{ends}&format=text"')
    drop("order_tracking_2024_11_20.csv", BAD)
    assert call("run").exit_code == 3
    ((sender, to, subject, text),) = box.mails
    assert (sender, to) == ("orders@localhost", ["desk@example.com"])
    assert subject.startswith("orders: order_tracking_2024_11_20.csv of default is quarantined: ")
    assert "type next  ordertrail rejects --delivery 000001-00000-" in text
    assert "known?     ordertrail alerts ack delivery:000001-00000-" in text


def test_a_wrong_password_is_told_without_it(call: Call, mail: tuple[Mailbox, int]) -> None:
    _, port = mail
    alerts(f'name = "mail"\nurl = "mailtos://desk:wrong{PASSWORD}@localhost:{port}?mode=ssl&to=desk@example.com"')
    found = call("alerts", "test")
    assert found.exit_code == 1
    assert found.stdout.startswith("mail: ")
    assert PASSWORD not in found.output


def test_an_authority_that_nobody_knows_is_refused(
    call: Call, mail: tuple[Mailbox, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    box, port = mail
    address = f"mailtos://desk:{PASSWORD}@localhost:{port}?mode=ssl&to=desk@example.com"
    alerts(f'name = "strict"\nurl = "{address}"', f'name = "lax"\nurl = "{address}&verify=no"')
    found = json.loads(call("alerts", "test", "--json").stdout)
    assert [(one["name"], one["sent"]) for one in found["channels"]] == [("strict", False), ("lax", True)]
    assert len(box.mails) == 1


def test_a_text_message_is_the_first_line_and_a_chat_gets_all(
    call: Call, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"http://127.0.0.1:{web.port}"
    monkeypatch.setattr(NotifyTwilio, "notify_sms_url", at + "/2010-04-01/Accounts/{sid}/Messages.json")
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{at}/services")
    web.status = 201
    alerts(f'name = "sms"\nurl = "twilio://{SID}:{AUTH}@15551234567/15557654321"')
    alerts(f'name = "hook"\nurl = "json://127.0.0.1:{web.port}/hook"')
    drop("order_tracking_2024_11_20.csv", BAD)
    assert call("run").exit_code == 3
    (path, _, form), (_, _, hook) = web.asked
    assert path == f"/2010-04-01/Accounts/{SID}/Messages.json"
    sent = urllib.parse.parse_qs(form.decode())
    assert sent["To"] == ["+15557654321"]
    assert sent["Body"][0].startswith("orders: order_tracking_2024_11_20.csv of default is quarantined")
    assert len(sent["Body"][0]) <= 160
    told = json.loads(hook)
    assert told["title"] == sent["Body"][0]
    assert "concerns   1 row, at most one shipment: it is not in the target" in told["message"]
    assert told["type"] == "warning"


def test_slack_gets_its_webhook(call: Call, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{web.port}/services")
    alerts(f'name = "chat"\nurl = "slack://{SLACK}"')
    assert call("alerts", "test", "chat").exit_code == 0
    ((path, _, body),) = web.asked
    assert path == f"/services/{SLACK}"
    assert "this is a test of the channel chat" in body.decode()


def test_from_the_file_to_the_recovery(call: Call, web: Web) -> None:
    alerts(f'name = "hook"\nurl = "json://127.0.0.1:{web.port}/hook"')
    drop("order_tracking_2024_11_20.csv", BAD)
    assert call("run").exit_code == 3
    key = json.loads(call("alerts", "list", "--json").stdout)["incidents"][0]["key"]
    assert call("alerts", "check").exit_code == 0
    known = call("alerts", "ack", key, "--why", "the vendor sends it again", "--by", "ops", "--json")
    assert json.loads(known.stdout)["acknowledged_by"] == "ops"
    assert call("alerts", "ack", "delivery:9", "--why", "x").exit_code == 2
    assert call("dismiss", key.removeprefix("delivery:"), "--why", "known").exit_code == 0
    assert call("alerts", "check").exit_code == 0
    assert call("alerts", "check").exit_code == 0
    titles = [json.loads(body)["title"] for _, _, body in web.asked]
    assert [one.partition(": order")[0] for one in titles] == ["orders", "orders: over"]
    assert json.loads(call("alerts", "list", "--json").stdout)["incidents"] == []
    (closed,) = json.loads(call("alerts", "list", "--all", "--json").stdout)["incidents"]
    assert (closed["acknowledged_why"], closed["posts"][0]["told"]) == ("the vendor sends it again", "close")


def test_the_service_tells_by_itself_and_once(call: Call, web: Web) -> None:
    """`ordertrail watch` as a process of its own: it tells of a broken file, and after a later pass that it is over."""
    alerts(f'name = "hook"\nurl = "json://127.0.0.1:{web.port}/hook"')
    service = subprocess.Popen(
        [sys.executable, "-m", "ordertrail", "watch", "--interval", "1"], stderr=subprocess.DEVNULL
    )
    try:
        drop("order_tracking_2024_11_20.csv", BAD)
        waited(lambda: len(web.asked) == 1)
        drop("order_tracking_2024_11_21.csv", GOOD)
        waited(lambda: json.loads(call("status", "--json").stdout)["deliveries"].get("loaded") == 1)
        (incident,) = json.loads(call("alerts", "list", "--json").stdout)["incidents"]
        call("dismiss", incident["key"].removeprefix("delivery:"), "--why", "known")
        drop("order_tracking_2024_11_22.csv", GOOD.replace("1Z1", "1Z2"))
        waited(lambda: len(web.asked) == 2)
    finally:
        service.terminate()
        assert service.wait(timeout=10) == 0
    titles = [json.loads(body)["title"] for _, _, body in web.asked]
    assert [one.partition(": order")[0] for one in titles] == ["orders", "orders: over"]


def waited(reached: Callable[[], bool]) -> None:
    """Wait until something holds; fails after a minute."""
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_failed_run_is_told_once_and_ended_by_a_pass_alone(call: Call, web: Web) -> None:
    alerts(f'name = "hook"\nurl = "json://127.0.0.1:{web.port}/hook"')
    assert call("run").exit_code == 0
    Path("data/source").rename("data/elsewhere")
    for _ in range(3):
        assert call("run").exit_code == 1
    assert call("alerts", "check").exit_code == 0
    Path("data/elsewhere").rename("data/source")
    assert call("alerts", "check").exit_code == 0  # nobody has passed yet
    opened = json.loads(call("alerts", "list", "--json").stdout)["incidents"]
    assert [one["key"] for one in opened] == ["pipeline:failing"]
    assert call("run").exit_code == 0
    told = [json.loads(body) for _, _, body in web.asked]
    assert told[0]["type"] == "failure"
    assert "the pass failed with E_SOURCE" in told[0]["title"] + told[0]["message"]
    assert told[-1]["title"].startswith("orders: over: the pass failed")
    assert call("alerts", "check").exit_code == 0
    assert len(web.asked) == len(told)


def test_a_channel_that_is_down_is_told_on_the_other_one(call: Call, web: Web) -> None:
    alerts('name = "dead"\nurl = "json://127.0.0.1:1/hook"', f'name = "hook"\nurl = "json://127.0.0.1:{web.port}/hook"')
    drop("order_tracking_2024_11_20.csv", BAD)
    found = call("run")
    assert found.exit_code == 3
    assert "alerts on dead: " in found.stderr
    (post, other) = json.loads(call("alerts", "list", "--json").stdout)["incidents"][0]["posts"]
    assert (post["waiting"], post["attempts"], other["told"]) == ("open", 1, "open")
    assert post["error"]


def test_without_an_address_a_channel_waits_and_says_what_is_missing(call: Call) -> None:
    alerts('name = "chat"\nurl = "slack://${NO_SUCH_TOKEN}"')
    found = call("alerts", "test", "--json")
    assert found.exit_code == 1
    assert "NO_SUCH_TOKEN" in json.loads(found.stdout)["channels"][0]["error"]
    assert call("status").exit_code == 0
    assert call("run").exit_code == 0
    doctor = {one["name"]: one for one in json.loads(call("doctor", "--json").stdout)["checks"]}
    assert (doctor["alerts chat"]["health"], "NO_SUCH_TOKEN" in doctor["alerts chat"]["detail"]) == ("warn", True)


def test_the_dead_mans_switch_is_asked_after_each_pass(call: Call, web: Web) -> None:
    pipeline_setting(f'ping_url = "http://127.0.0.1:{web.port}/uuid?x=1"')
    assert call("run").exit_code == 0
    Path("data/source").rename("data/elsewhere")
    assert call("run").exit_code == 1
    assert web.paths == ["/uuid?x=1", "/uuid/fail?x=1"]
    pipeline_setting('ping_url = "http://127.0.0.1:1/a-secret-uuid"')
    found = call("run")
    assert "Note: ping_url: " in found.stderr
    assert "a-secret-uuid" not in found.stderr


def test_a_pass_with_nothing_to_tell_writes_nothing_and_imports_no_apprise(call: Call, tmp_path: Path) -> None:
    alerts('name = "hook"\nurl = "json://127.0.0.1:1/hook"')
    drop("order_tracking_2024_11_20.csv", GOOD)
    script = (
        "import sys\nfrom ordertrail.cli import cli\n"
        "sys.argv = ['ordertrail', 'run']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "assert not {'apprise', 'requests', 'smtplib'} & set(sys.modules)\n"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert not Path("data/warehouse/incremental_load/default/orders_incidents").exists()
    drop("order_tracking_2024_11_21.csv", BAD)
    call("run")
    table = DeltaTable("data/warehouse/incremental_load/default/orders_incidents")
    before = table.version()
    assert call("run").exit_code == 0
    assert call("run").exit_code == 0
    table.update_incremental()
    assert table.version() == before


def test_after_a_pass_the_incidents_are_read_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("order_tracking_2024_11_20.csv", BAD)
    call("run", code=3)
    drop("order_tracking_2024_11_21.csv", BAD + "0002,Y\n")
    reads: list[int] = []

    def counted(snapshot: Snapshot) -> tuple[Incident, ...]:
        reads.append(snapshot.version)
        return incidents_in(snapshot)

    monkeypatch.setattr(incidents, "incidents_in", counted)
    call("run", code=3)
    assert len(reads) == 1


def test_no_secret_is_in_any_output_log_or_table(
    call: Call, web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = f"http://127.0.0.1:{web.port}"
    monkeypatch.setattr(NotifyTwilio, "notify_sms_url", at + "/2010-04-01/Accounts/{sid}/Messages.json")
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{at}/services")
    monkeypatch.setenv("SMS_AUTH", AUTH)
    Path("slack-url").write_text(f"slack://{SLACK}\n")
    web.status = 403
    alerts(
        f'name = "sms"\nurl = "twilio://{SID}:${{SMS_AUTH}}@15551234567/15557654321"',
        'name = "chat"\nurl_file = "slack-url"',
        f'name = "mail"\nurl = "mailtos://desk:{PASSWORD}@127.0.0.1:1?to=desk@example.com"',
        f'name = "odd"\nurl = "nosuchservice://{PASSWORD}"',
    )
    pipeline_setting(f'ping_url = "{at}/ping-{AUTH}"')
    drop("order_tracking_2024_11_20.csv", BAD)
    said = caplog.text
    for words in (
        ("run", "--debug"), ("run",), ("alerts", "list"), ("alerts", "list", "--json"), ("alerts", "test"),
        ("alerts", "test", "--json", "--debug"), ("alerts", "check", "--debug"), ("status", "--json"),
        ("doctor",), ("health",), ("query", "FROM orders_deliveries"),
    ):  # fmt: skip
        found = call(*words)
        said += found.output + (found.stderr or "")
    logging.getLogger("apprise").propagate = False
    secrets = [PASSWORD, AUTH, *SLACK.split("/"), SID]
    assert [one for one in secrets if one.lower() in said.lower()] == []
    written = [path for path in Path("data").rglob("*") if path.is_file()]
    assert len(written) > 20
    table = Path("data/warehouse/incremental_load/default/orders_incidents")
    rows: list[dict[str, Any]] = DeltaTable(table).to_pyarrow_table().to_pylist()
    kept = [json.loads(row["outbox"])["posts"] for row in rows]
    assert {post["channel"] for posts in kept for post in posts} == {"sms", "chat", "mail", "odd"}
    assert all(post["error"] for posts in kept for post in posts)
    everything = json.dumps(rows, default=str)
    assert [one for one in secrets if one in everything] == []
    for path in written:
        data = path.read_bytes()
        assert [one for one in secrets if one.encode() in data] == [], path
