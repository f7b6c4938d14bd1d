"""`[[alerts]]` of `ordertrail.toml`: every setting of a channel, with type, default and help."""

from __future__ import annotations

from typing import Annotated

from ordertrail.config.section import Section, said


class AlertSection(Section, frozen=True, kw_only=True):
    """`[[alerts]]`: a channel on which somebody is told that they are needed."""

    name: Annotated[str, said("The channel's name, unique: what is shown and kept instead of its address.", "desk")]
    url: Annotated[
        str | None,
        said(
            "Address of the channel, as apprise takes it; ${NAME} stands for an environment variable.",
            "mailtos://${MAIL_USER}:${MAIL_PASSWORD}@mail.example.com?to=desk@example.com",
        ),
    ] = None
    url_file: Annotated[
        str | None, said("In place of url: a file whose first line is the address.", "secrets/desk-url")
    ] = None
    min_severity: Annotated[
        str, said('"warning" tells everything, "critical" only when nothing loads or the target cannot be trusted.')
    ] = "warning"
    quiet_hours: Annotated[
        str, said('Times of day between which nothing is sent, such as "22:00-06:00"; critical incidents are.')
    ] = ""
    timezone: Annotated[str, said("IANA time zone of quiet_hours.", "Europe/Berlin")] = "UTC"
    quiet_critical: Annotated[bool, said("Critical incidents, too, wait for the end of quiet_hours.")] = False
    vendors: Annotated[
        list[str], said("Only incidents of these vendors; without any, all, and those of no vendor.", ["acme"])
    ] = []
