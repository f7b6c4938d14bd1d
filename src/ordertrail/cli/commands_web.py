"""Commands that show the pipeline in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from ordertrail.cli.errors import put
from ordertrail.cli.frame import Frame, command


@command(
    click.Option(
        ["--host"], metavar="ADDRESS", default="127.0.0.1", show_default=True, help="To listen at; with a token only."
    ),
    click.Option(
        ["--port"],
        type=click.IntRange(0, 65535),
        metavar="N",
        help="0 takes any that is free.  [default: 8765, or any when it is taken]",
    ),
    click.Option(
        ["--token-file"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Holds what readers must know; or give it in the environment, as ORDERTRAIL_SERVE_TOKEN.",
    ),
    click.Option(["--token"], metavar="TEXT", help="The same, but all users of this machine can see it."),
    click.Option(
        ["--behind-proxy", "proxy_header"],
        metavar="HEADER",
        help="A proxy admits readers, names them in this header, and alone reaches the address.",
    ),
    click.Option(
        ["--allow-host", "names"],
        metavar="NAME",
        multiple=True,
        help="A name of this server in addresses; may be repeated.",
    ),
)
def serve(
    frame: Frame,
    host: str,
    port: int | None,
    token_file: Path | None,
    token: str | None,
    proxy_header: str | None,
    names: tuple[str, ...],
) -> int:
    """Show the pipeline in a browser.

    Pages of what came, what is late, what was rejected and why, and every shipment's history, for who does not type
    commands. They only read, and may run beside passes. Needs the extra `web`. Ends on SIGTERM or Ctrl-C.

    Without more only this machine can open them. Any other address needs a token, or a proxy that admits readers.
    """
    from ordertrail.config import serve_token
    from ordertrail.web.access import access
    from ordertrail.web.serve import Listening, require_libraries
    from ordertrail.web.serve import serve as show

    require_libraries()
    config = frame.config(service=True)
    who = access(host, token=serve_token(token, token_file), proxy_header=proxy_header or "", names=names)

    def tell(found: Listening) -> None:
        if frame.as_json:
            frame.tell(found, lambda one: {"pipeline": one.pipeline, "url": one.url, "token": one.token})
            return
        needs = "; readers need the token" if found.token else ""
        put(f"Pages of the pipeline {found.pipeline}: {found.url}  (Ctrl-C ends{needs})\n")

    return show(config, who, port, tell)
