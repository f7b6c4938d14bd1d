"""What becomes of incidents, by a clock that the test holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from msgspec.structs import replace

from ordertrail.rules.incident_rows import incident_of, row_of
from ordertrail.rules.incidents import (
    FAILING,
    KEEP,
    SAME,
    Cause,
    Incident,
    Seen,
    acknowledged,
    channel_key,
    judge,
    listed,
)
from ordertrail.rules.outbox import (
    CALM_COUNT,
    FAILED_SENDS,
    GIVE_UP,
    LEASE,
    MOST_AN_HOUR,
    Channel,
    Event,
    Post,
    claimed,
    failed,
    outbox_of,
    outbox_text,
    queued,
    sent,
    too_many,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MAIL = Channel("mail")
BAD = Cause("quarantined", "delivery:1", "warning", "a.csv of acme is quarantined", "ordertrail rejects", vendor="acme")
FAILS = Cause("failing", FAILING, "critical", "3 passes failed in a row", "ordertrail doctor")


@dataclass
class Desk:
    """Incidents, the channels that tell them, and what they told; every message is sent at once."""

    channels: Sequence[Channel] = (MAIL,)
    now: datetime = NOON
    incidents: tuple[Incident, ...] = ()
    told: list[tuple[str, Event, str]] = field(default_factory=list)
    writes: int = 0
    down: set[str] = field(default_factory=set)
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def look(self, *causes: Cause, after: timedelta = timedelta(0), whole: bool = True, passed: bool = True) -> None:
        self.now += after
        seen = Seen(causes, whole, passed)
        found = judge(self.incidents, seen, self.channels, self.now, lambda: f"i{next(self.ids):04}")
        if found is not None:
            self.incidents = found
            self.writes += 1
        self.send()

    def send(self) -> None:
        self.incidents = tuple(
            replace(one, posts=tuple(self._try(one, post) for post in one.posts)) for one in self.incidents
        )

    def _try(self, one: Incident, post: Post) -> Post:
        if not post.due(self.now) or post.waiting is None:
            return post
        held = claimed(post, self.now)
        if post.channel in self.down:
            return failed(held, "refused", one.closed_at, self.now)
        self.told.append((post.channel, post.waiting, one.key))
        return sent(held, post.waiting, self.now)

    @property
    def events(self) -> list[Event]:
        return [event for _, event, _ in self.told]

    def of(self, key: str) -> Incident:
        return listed(one for one in self.incidents if one.key == key)[0]


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_a_cause_is_told_when_it_comes_and_when_it_is_gone() -> None:
    desk = Desk()
    desk.look(BAD)
    desk.look(after=MINUTE)
    assert desk.told == [("mail", "open", BAD.key), ("mail", "close", BAD.key)]
    assert (desk.of(BAD.key).opened_at, desk.of(BAD.key).closed_at) == (NOON, NOON + MINUTE)


def test_500_failing_passes_are_one_message_and_one_recovery() -> None:
    desk = Desk()
    for number in range(500):
        desk.look(replace(FAILS, text=f"{number} passes failed in a row"), after=timedelta(seconds=5))
    assert (desk.events, desk.writes) == (["open"], 1)
    desk.look(after=MINUTE)
    assert (desk.events, desk.writes) == (["open", "close"], 2)


def test_what_goes_on_is_told_after_an_hour_then_four_then_daily() -> None:
    desk, at = Desk(), []
    for _ in range(60 * 24 * 4):
        before = len(desk.told)
        desk.look(BAD, after=MINUTE)
        if len(desk.told) > before:
            at.append((desk.now - NOON - MINUTE) / HOUR)
    assert at == [0, 1, 5, 29, 53, 77]
    assert set(desk.events) == {"open", "remind"}


def test_a_long_silence_of_the_evaluation_is_one_reminder() -> None:
    desk = Desk()
    desk.look(BAD)
    desk.look(BAD, after=5 * DAY)
    desk.look(BAD, after=MINUTE)
    assert desk.events == ["open", "remind"]


def test_who_acknowledged_is_not_reminded_but_told_of_the_end() -> None:
    desk = Desk()
    desk.look(BAD)
    desk.incidents, hit = acknowledged(desk.incidents, BAD.key, "ops", "the vendor sends it again", desk.now)
    assert hit is not None
    desk.look(BAD, after=DAY)
    desk.look(after=MINUTE)
    assert desk.events == ["open", "close"]
    one = desk.of(BAD.key)
    assert (one.acknowledged_by, one.acknowledged_why) == ("ops", "the vendor sends it again")
    assert acknowledged(desk.incidents, BAD.key, "ops", "again", desk.now)[1] is None  # closed


def test_a_cause_that_flaps_is_told_at_most_hourly_and_how_it_stands_in_the_end() -> None:
    desk = Desk()
    for _ in range(200):
        desk.look(BAD, after=MINUTE)
        desk.look(after=MINUTE)
    assert len([one for one in desk.incidents if one.key == BAD.key]) == 1
    assert desk.of(BAD.key).count == 200
    assert len(desk.told) <= 2 * CALM_COUNT + 400 / 60
    desk.look(BAD, after=MINUTE)
    desk.look(BAD, after=2 * HOUR)
    assert desk.events[-1] in ("open", "remind")
    desk.look(after=DAY)
    assert desk.events[-1] == "close"


def test_a_cause_that_comes_back_much_later_is_another_incident() -> None:
    desk = Desk()
    desk.look(BAD)
    desk.look(after=MINUTE)
    desk.look(BAD, after=SAME + MINUTE)
    assert [one.count for one in desk.incidents] == [1, 1]
    assert desk.events == ["open", "close", "open"]


@pytest.mark.parametrize("kind", ["failing", "stalled", "contract"])
def test_a_cause_silences_its_symptoms(kind: str) -> None:
    late = Cause("late", "vendor:acme:late", "warning", "acme is late", "ordertrail status", vendor="acme")
    waits = Cause("waiting", "waiting:a.csv", "warning", "a.csv waits", "ordertrail run")
    block = Cause(kind, f"pipeline:{kind}", "critical", "nothing loads", "ordertrail doctor")
    desk = Desk()
    desk.look(waits)
    desk.look(waits, late, block, after=MINUTE)
    desk.look(late, block, after=2 * HOUR)  # a source that cannot be read shows no file: that is no end of it
    assert desk.told == [("mail", "open", waits.key), ("mail", "open", block.key), ("mail", "remind", block.key)]
    desk.look(late, after=MINUTE)
    assert {key for _, event, key in desk.told[3:] if event == "close"} == {waits.key, block.key}
    assert ("mail", "open", late.key) in desk.told[3:]


def test_only_a_pass_ends_failing_passes_and_only_a_whole_list_the_rest() -> None:
    desk = Desk()
    desk.look(FAILS, BAD)
    desk.look(after=MINUTE, passed=False)
    assert [one.key for one in desk.incidents if one.open] == [FAILING]
    desk.look(BAD, passed=False)
    desk.look(after=MINUTE, whole=False)
    assert [one.key for one in desk.incidents if one.open] == [BAD.key]


def test_what_gets_worse_is_told_again() -> None:
    disk = Cause("disk", "disk:archive", "warning", "1 GB left", "ordertrail doctor")
    desk = Desk((MAIL, Channel("sms", "critical")))
    desk.look(disk)
    assert desk.told == [("mail", "open", disk.key)]
    worse = replace(disk, severity="critical", text="0.1 GB left")
    desk.look(worse, after=MINUTE)
    desk.look(disk, after=MINUTE)
    desk.look(worse, after=MINUTE)
    assert desk.told[1:] == [("mail", "open", disk.key), ("sms", "open", disk.key)]
    assert desk.of(disk.key).severity == "critical"


def test_channels_take_what_they_ask_for() -> None:
    desk = Desk((Channel("acme", vendors=("acme",)), Channel("blue", vendors=("blue",)), Channel("sms", "critical")))
    desk.look(BAD, FAILS)
    assert desk.told == [("acme", "open", BAD.key), ("sms", "open", FAILING)]


def test_a_channel_that_is_added_is_told_what_is_open() -> None:
    desk = Desk(())
    desk.look(BAD)
    assert desk.told == []
    desk.channels = (MAIL,)
    desk.look(BAD, after=DAY)
    desk.look(BAD, after=MINUTE)
    assert desk.events == ["open"]


def test_a_channel_that_is_gone_from_the_config_keeps_nothing_waiting() -> None:
    desk = Desk(down={"mail"})
    desk.look(BAD)
    desk.channels = ()
    desk.look(BAD, after=MINUTE)
    assert [post.waiting for post in desk.of(BAD.key).posts] == [None]


def test_a_channel_that_is_down_is_told_on_the_others_and_tells_all_when_it_is_back() -> None:
    desk = Desk((MAIL, Channel("sms")), down={"mail"})
    for _ in range(FAILED_SENDS + 3):
        desk.look(BAD, after=5 * MINUTE)
    assert desk.told == [("sms", "open", BAD.key), ("sms", "open", channel_key("mail"))]
    assert "refused" in desk.of(channel_key("mail")).text
    desk.down.clear()
    desk.look(BAD, after=2 * HOUR)
    desk.look(BAD, after=MINUTE)
    assert ("mail", "open", BAD.key) in desk.told
    assert ("sms", "close", channel_key("mail")) in desk.told
    assert not [one for one in desk.told if one[0] == "mail" and one[2] == channel_key("mail")]


def test_of_what_ended_while_a_channel_was_down_the_end_is_told() -> None:
    desk = Desk(down={"mail"})
    desk.look(BAD)
    desk.look(after=MINUTE)
    desk.down.clear()
    desk.look(after=HOUR)
    assert desk.events == ["close"]


def test_what_cannot_be_sent_is_given_up_long_after_the_end() -> None:
    desk = Desk(down={"mail"})
    desk.look(BAD)
    desk.look(after=MINUTE)
    desk.look(after=GIVE_UP + HOUR)
    assert [post.waiting for post in desk.of(BAD.key).posts] == [None]


QUIET = Channel("mail", quiet=(22 * 60, 6 * 60), timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "first"),
    [
        ("2026-11-23T20:59", "2026-11-23T20:59"),
        ("2026-11-23T21:00", "2026-11-24T05:00"),
        ("2026-11-24T04:59", "2026-11-24T05:00"),
        ("2026-11-24T05:00", "2026-11-24T05:00"),
        ("2026-10-24T23:30", "2026-10-25T05:00"),  # the clock goes back that night
    ],
)
def test_quiet_hours_end_by_the_clock_of_their_zone(at: str, first: str) -> None:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert QUIET.earliest("warning", moment) == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert QUIET.earliest("critical", moment) == moment
    assert replace(QUIET, quiet_critical=True).earliest("critical", moment) == QUIET.earliest("warning", moment)


def test_quiet_hours_within_a_day() -> None:
    lunch = Channel("mail", quiet=(12 * 60, 13 * 60))
    assert lunch.earliest("warning", NOON) == NOON + HOUR
    assert lunch.earliest("warning", NOON + HOUR) == NOON + HOUR


def test_what_begins_and_ends_in_quiet_hours_is_one_message_in_the_morning() -> None:
    desk = Desk((QUIET,), now=datetime(2026, 11, 23, 22, tzinfo=UTC))
    desk.look(BAD)
    desk.look(after=HOUR)
    assert desk.told == []
    desk.look(after=6 * HOUR)
    assert desk.events == ["close"]


# --- posts -------------------------------------------------------------------------------------------------------


def test_a_claimed_post_is_left_to_its_sender_until_the_lease_ends() -> None:
    post = claimed(queued(Post("mail"), "open", MAIL, "warning", 1, NOON), NOON)
    assert not post.due(NOON + LEASE - MINUTE / 60)
    assert post.due(NOON + LEASE)


def test_an_event_that_comes_while_another_is_sent_is_told_after_it() -> None:
    post = claimed(queued(Post("mail"), "open", MAIL, "warning", 1, NOON), NOON)
    both = queued(post, "close", MAIL, "warning", 1, NOON + MINUTE)
    assert not both.due(NOON + MINUTE)
    after = sent(both, "open", NOON + MINUTE)
    assert (after.told, after.waiting, after.due(NOON + LEASE)) == ("open", "close", True)


def test_retries_get_rarer() -> None:
    post, waits = queued(Post("mail"), "open", MAIL, "warning", 1, NOON), []
    for _ in range(12):
        post = failed(claimed(post, NOON), "refused", None, NOON)
        assert post.next_at is not None
        waits.append((post.next_at - NOON).total_seconds())
    assert waits[:4] == [30, 60, 120, 240]
    assert waits[-1] == 3600


def test_a_channel_has_so_many_messages_an_hour() -> None:
    told = [NOON - n * MINUTE for n in range(MOST_AN_HOUR)]
    assert too_many(told, "warning", NOON)
    assert not too_many(told[1:], "warning", NOON)
    assert not too_many([NOON] * 100, "warning", NOON)  # one message that told of many
    assert not too_many(told, "critical", NOON)
    assert not too_many(told, "warning", NOON + 2 * HOUR)


@pytest.mark.parametrize("text", [None, "", "null", "[]", "{", '{"posts": 1}', '{"posts": [{"told": "open"}]}'])
def test_an_outbox_that_cannot_be_understood_is_empty(text: str | None) -> None:
    assert outbox_of(text) == ()


# --- rows --------------------------------------------------------------------------------------------------------


def test_an_incident_is_read_back_as_it_was_written() -> None:
    desk = Desk((MAIL, Channel("sms")), down={"mail"})
    desk.look(replace(BAD, rows=12, since=NOON - HOUR))
    desk.incidents, _ = acknowledged(desk.incidents, BAD.key, "ops", "why", desk.now)
    desk.look(after=MINUTE)
    assert [incident_of(row_of(one)) for one in desk.incidents] == list(desk.incidents)
    assert outbox_of(outbox_text(desk.incidents[0].posts)) == desk.incidents[0].posts


def test_long_closed_incidents_go_when_the_table_is_written() -> None:
    desk = Desk()
    desk.look(BAD)
    desk.look(after=MINUTE)
    desk.look(after=KEEP + DAY)
    assert len(desk.incidents) == 1
    desk.look(FAILS, after=MINUTE)
    assert [one.key for one in desk.incidents] == [FAILING]


def test_open_incidents_are_listed_first_then_the_newest() -> None:
    desk = Desk()
    desk.look(BAD)
    desk.look(BAD, FAILS, after=MINUTE)
    desk.look(BAD, after=MINUTE)
    assert [one.key for one in listed(desk.incidents)] == [BAD.key, FAILING]
