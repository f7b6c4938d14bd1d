"""The command line: every command parses its arguments, makes one call and renders the result.

Nothing heavier than click is imported before a command runs, so that `ordertrail --help` answers at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from ordertrail import __version__
from ordertrail.cli.errors import guarded, leave

__all__ = ["COMMANDS", "PROGRAM", "cli", "main"]

PROGRAM = "ordertrail"

_SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Begin": {"commands_setup": ("init", "demo", "doctor", "vendor", "completion")},
    "Load": {"commands_load": ("run", "stage", "load", "watch", "plan")},
    "Look": {
        "commands_read": ("status", "health", "deliveries", "rejects", "drift", "track", "query", "export", "verify"),
        "commands_changes": ("changes",),
        "commands_alerts": ("alerts",),
        "commands_web": ("serve",),
    },
    "Mend": {"commands_mend": ("undo", "redo", "replay", "correct", "release", "refuse", "dismiss", "migrate")},
    "Keep in order": {"commands_keep": ("maintain", "rebuild", "adopt", "backup", "restore")},
    "Elsewhere": {"commands_deploy": ("deploy",)},
}

COMMANDS = {
    name: f"ordertrail.cli.{module}"
    for modules in _SECTIONS.values()
    for module, names in modules.items()
    for name in names
}
"""Every command and the module that holds it, in the order of the help."""


class _Root(click.Group):
    """The group of all commands; a command's module is imported only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click gives it
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click gives it
        """Import one command."""
        module = COMMANDS.get(cmd_name)
        return None if module is None else getattr(import_module(module), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error for a wrong name suggests the nearest right one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; {_nearest(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by purpose."""
        for title, modules in _SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for names in modules.values() for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(60)) for name, one in found if one is not None])

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - click's own signature is that wide
        """Run one command and exit with its code; no error surfaces as a traceback."""
        words = extra.pop("args", None) if not args else args[0]
        words = sys.argv[1:] if words is None else list(words)
        # Always by its own name, also when started as `python -m ordertrail`.
        extra |= {"prog_name": PROGRAM, "standalone_mode": False}
        # `super()` needs its arguments inside the lambda.
        leave(guarded(lambda: super(_Root, self).main(words, **extra), words))


def _nearest(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """Vendor files of shipment updates in, one trustworthy Delta table out.

    New here? Run `ordertrail demo`. For a pipeline of your own: `ordertrail init`, then `ordertrail run`.
    Every command takes --json: one JSON document on stdout and nothing else.

    Exit codes: 0 done, 1 failed and safe to run again, 2 wrong usage or config, 3 done but something needs a
    person, 4 another pass is running.
    """


def main() -> None:
    """Run the command line of this process and exit with its code."""
    cli.main()
