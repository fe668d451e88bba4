"""Commands that are imported when they are asked for: who checks a policy does not wait for a server's libraries."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

if TYPE_CHECKING:
    from typer._click import Command, Context


def lazily(places: Mapping[str, str]) -> type[TyperGroup]:
    """
    Return a kind of group that has more commands than its own.

    Args:
        places: By the name of the command, ``module:function``, or the module whose ``app`` is a group of its own.
    """

    class Group(TyperGroup):
        def list_commands(self, ctx: "Context") -> list[str]:
            """Return the names of all, whether imported or not."""
            return [*places, *(name for name in super().list_commands(ctx) if name not in places)]

        def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
            """Import a command, if it is one that was not asked for before."""
            if cmd_name in places and cmd_name not in self.commands:
                self.add_command(_imported(cmd_name, places[cmd_name]), cmd_name)
            return super().get_command(ctx, cmd_name)

        def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, Command | None, list[str]]":
            """Know every name where one is mistyped, to say what may have been meant."""
            if args[0] not in self.list_commands(ctx):
                for name in places:
                    self.get_command(ctx, name)
            return super().resolve_command(ctx, args)

    return Group


def _imported(name: str, place: str) -> "Command":
    where, _, function = place.partition(":")
    module = import_module(f"ruqsat.cli.{where}")
    if function:
        app = typer.Typer(add_completion=False)
        app.command(name)(getattr(module, function))
        command = get_command(app)
    else:
        command = get_group(module.app)
    command.name = name
    return command
