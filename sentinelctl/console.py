"""What people and programs read: results on stdout, people's text on stderr. The only module that prints."""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console as RichConsole


_PIPED_WIDTH = 500


@dataclass(frozen=True)
class Console:
    """One per command. Under `is_json` the result is one JSON document on stdout and people's text stays on stderr."""

    is_json: bool = False
    is_verbose: bool = False

    @cached_property
    def err(self) -> "RichConsole":
        """For people: progress, tables, notes. No colour when piped."""
        from rich.console import Console as RichConsole

        return RichConsole(stderr=True, highlight=False, soft_wrap=True)

    @cached_property
    def out(self) -> "RichConsole":
        """For results in the form people read; unused under `is_json`. Piped, a row of a table stays one line."""
        from rich.console import Console as RichConsole

        return RichConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_WIDTH)

    def note(self, text: str) -> None:
        """One plain line for people, markup not interpreted."""
        self.err.print(text, markup=False)

    def document(self, value: dict[str, Any]) -> None:
        """The result under --json: one document."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def text(self, value: str) -> None:
        """A result that is text already (a file's content, SARIF), byte for byte."""
        sys.stdout.write(value)
        sys.stdout.flush()

    def error(self, message: str, remedy: str = "", exit_code: int = 1) -> None:
        if self.is_json:
            self.document({"error": {"message": message, "remedy": remedy, "exit_code": exit_code}})
        self.err.print("error:", style="bold red", end=" ")
        self.err.print(message, markup=False)
        if remedy:
            self.err.print(f"  {remedy}", markup=False)


def clean(text: str) -> str:
    """Text from a diff, made harmless for a terminal: tabs become four spaces, other control characters, and those that
    are invisible or turn the direction of writing, visible escapes."""
    return "".join("    " if char == "\t" else char if char.isprintable() else repr(char)[1:-1] for char in text)
