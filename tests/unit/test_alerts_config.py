"""`[[alerts]]` and `ping_url`: what is refused, what is a problem of the channel, and that no address is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordertrail.config import Config, parse_config
from ordertrail.errors import ConfigError
from ordertrail.rules.secrets import SecretUrl

TOKEN = "xoxb-very-secret-token"
HEAD = '[pipeline]\nsource = "in"\narchive = "done"\nwarehouse = "tables"\n'


def config(alerts: str, head: str = HEAD, base: Path = Path("/srv/orders"), **environ: str) -> Config:
    return parse_config(head + alerts, base=base, environ=environ, file=base / "ordertrail.toml")


def alert(lines: str, **environ: str) -> Config:
    return config(f'[[alerts]]\nname = "desk"\n{lines}\n', **environ)


@pytest.mark.parametrize(
    ("lines", "place", "hint"),
    [
        (f'url = "{TOKEN}"', "alerts[desk].url = ***: is no address", "apprise"),
        ("", "alerts[desk].url: is missing", "url_file"),
        (f'url = "slack://{TOKEN}"\nurl_file = "f"', "is there, and so is url_file", "either url"),
        (f'url = "slack://${{{TOKEN}}}"', "alerts[desk].url = ***: has ${ without", "write ${NAME}"),
        (f'url = ["slack://{TOKEN}"]', "alerts[desk].url = ***: must be text", "url ="),
        (f'ulr = "slack://{TOKEN}"', "alerts[desk].ulr = ***: there is no such setting", "url"),
        (f'adress = "slack://{TOKEN}"', "alerts[desk].adress = ***: there is no such setting", "take it out"),
        ('url = "a://b"\nmin_severity = "high"', "alerts[desk].min_severity = 'high'", '"critical"'),
        ('url = "a://b"\nquiet_hours = "22-6"', "alerts[desk].quiet_hours = '22-6'", "22:00-06:00"),
        ('url = "a://b"\nquiet_hours = "24:00-06:00"', "is no span of time", "22:00-06:00"),
        ('url = "a://b"\nquiet_hours = "06:00-06:00"', "ends when it begins", "22:00-06:00"),
        ('url = "a://b"\ntimezone = "CET5"', "alerts[desk].timezone = 'CET5'", "did you mean CET?"),
        ('url = "a://b"\nvendors = ["acne"]', "alerts[desk].vendors = 'acne'", "the vendors are: default"),
        ('url = "a://b"\nname = 3', "not valid TOML", "correct"),
        ('url_file = ""', "alerts[desk].url_file = ''", "secrets/desk-url"),
        (
            'url = "a://b"\n[[alerts]]\nname = "desk"\nurl = "a://c"',
            "alerts[desk].name = 'desk': is there twice",
            "own",
        ),
        ('url = "a://b"\n[[alerts]]\nname = "a desk"\nurl = "a://c"', "alerts.name = 'a desk'", "letters"),
    ],
)
def test_a_mistake_is_refused_without_the_secret(lines: str, place: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        alert(lines)
    assert caught.value.message.startswith("/srv/orders/ordertrail.toml: ")
    assert place in caught.value.message
    assert hint in caught.value.hint
    assert TOKEN not in str(caught.value)


def test_a_channel_is_what_the_file_says() -> None:
    lines = 'url = "slack://a"\nmin_severity = "critical"\nquiet_hours = "22:00-6:30"\ntimezone = "Asia/Kolkata"'
    (one,) = alert(f'{lines}\nvendors = ["default"]').alerts
    assert one.name == "desk"
    assert (one.channel.min_severity, one.channel.vendors) == ("critical", ("default",))
    assert (one.channel.quiet, one.channel.timezone) == ((22 * 60, 6 * 60 + 30), "Asia/Kolkata")
    assert config("").alerts == ()


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (one,) = alert('url = "slack://${TOKEN_A}/${TOKEN_B}"', TOKEN_A="a", TOKEN_B="b").alerts
    assert one.address.url == SecretUrl("slack://a/b")
    (one,) = alert('url = "${WHOLE}"', WHOLE="slack://a").alerts
    assert one.address.url == SecretUrl("slack://a")
    (tmp_path / "url").write_text(f"\n slack://{TOKEN} \n")
    (one,) = config('[[alerts]]\nname = "desk"\nurl_file = "url"', base=tmp_path).alerts
    assert one.address.url == SecretUrl(f"slack://{TOKEN}")


def test_what_is_missing_only_here_is_a_problem_of_the_channel_and_no_error(tmp_path: Path) -> None:
    (one,) = alert('url = "slack://${TOKEN_A}"', TOKEN_B="b").alerts
    assert one.address.problem == "alerts[desk].url needs the environment variable TOKEN_A, which is not set"
    (one,) = config('[[alerts]]\nname = "desk"\nurl_file = "gone"', base=tmp_path).alerts
    assert one.address.problem == "alerts[desk].url_file = 'gone' cannot be read: No such file or directory"
    (tmp_path / "none").write_text(TOKEN)
    (one,) = config('[[alerts]]\nname = "desk"\nurl_file = "none"', base=tmp_path).alerts
    assert "is no address" in one.address.problem
    assert TOKEN not in repr(one)


def test_a_whole_address_from_the_environment_must_be_one() -> None:
    with pytest.raises(ConfigError) as caught:
        alert('url = "${WHOLE}"', WHOLE=TOKEN)
    assert "is no address" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_ping_url_is_an_address_of_the_web_and_a_secret() -> None:
    head = f'{HEAD}ping_url = "https://hc-ping.com/${{PING}}"\n'
    found = config("", head, PING=TOKEN)
    assert found.ping is not None
    assert found.ping.url == SecretUrl(f"https://hc-ping.com/{TOKEN}")
    assert TOKEN not in repr(found)
    missing = config("", head).ping
    assert missing is not None
    assert missing.problem == "ping_url needs the environment variable PING, which is not set"
    for wrong in (TOKEN, f"ftp://{TOKEN}", f"${{{TOKEN}}}"):
        with pytest.raises(ConfigError) as caught:
            config("", f'{HEAD}ping_url = "{wrong}"\n')
        assert "pipeline.ping_url = ***" in str(caught.value)
        assert TOKEN not in str(caught.value)


def test_no_address_is_in_a_repr() -> None:
    found = alert(f'url = "slack://{TOKEN}"')
    assert TOKEN not in repr(found)
    assert TOKEN not in f"{found.alerts[0].address.url}"
    assert "slack://***" in repr(found)


@pytest.mark.parametrize(
    ("url", "text", "shown"),
    [
        ("slack://TokenA/TokenB/chan", "refused by TokenA (tokenb)", "refused by *** (***)"),
        (
            "mailtos://me:pass%40word@mail.example.com",
            "mail.example.com: pass@word is wrong",
            "mail.example.com: *** is wrong",
        ),
        ("json://10.0.0.1:80/abcdef?x=ghijk", "10.0.0.1 says ghijk of /abcdef", "10.0.0.1 says *** of /***"),
        ("twilio://sid12345:auth9876@15551234567/15557654321", "auth9876 15557654321", "*** ***"),
    ],
)
def test_what_others_say_is_shown_without_the_address(url: str, text: str, shown: str) -> None:
    assert SecretUrl(url).hidden_in(text) == shown
