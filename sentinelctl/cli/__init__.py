"""The typer app. Each command is one file; a SentinelError becomes its message, its remedy and its exit code."""

import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sentinelctl.console import Console
from sentinelctl.errors import Exit, SentinelError

if TYPE_CHECKING:
    from sentinelctl.lifecycle import Project
    from services.settings import Settings

# Name, module under sentinelctl.cli, and whether it is a group (`app`) or a function of the same name.
COMMANDS = (
    ("demo", False),
    ("review", False),
    ("triage", False),
    ("up", False),
    ("down", False),
    ("restart", False),
    ("scale", False),
    ("build", False),
    ("autoscaler", True),
    ("status", False),
    ("logs", False),
    ("topics", True),
    ("dlq", True),
    ("replay", False),
    ("doctor", False),
    ("config", True),
    ("fakehub", False),
    ("model", True),
    ("data", True),
    ("chaos", True),
    ("bench", True),
)

# Options of every command, taken before and after its name.
_EVERYWHERE = {"--json": 0, "--verbose": 0, "-v": 0, "--config": 1, "--runtime": 1}


def hoist(arguments: list[str]) -> list[str]:
    """Moves the options of every command to the front; what follows `--` stays where it is."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*front, *rest, word, *queue]
        name, has_value, _ = word.partition("=")
        if name not in _EVERYWHERE:
            rest.append(word)
            continue
        front.append(word)
        if _EVERYWHERE[name] and not has_value and queue:
            front.append(queue.pop(0))
    return [*front, *rest]


app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Context:
    """What every command is given: `typer.Context.obj`."""

    def __init__(self, console: Console, config: Path | None, runtime: str | None) -> None:
        self.console = console
        self._config = config
        self._runtime = runtime

    def globals(self) -> list[str]:
        """The words before the command's name that name its settings, for a command that runs others."""
        named = [("--config", self._config), ("--runtime", self._runtime)]
        return [word for name, value in named if value is not None for word in (name, str(value))]

    def settings(self) -> "Settings":
        """With nothing left to choose: `auto` became what holds on this machine."""
        return self._settled()[0]

    def project(self) -> "Project":
        from sentinelctl.lifecycle import Project

        return Project(*self._settled())

    def _settled(self) -> tuple["Settings", str]:
        from sentinelctl.runtime.choice import settled

        return settled(self.written())

    def written(self) -> "Settings":
        """From the file and the environment, with --runtime over both."""
        from services.errors import ConfigError
        from services.settings import load

        try:
            settings = load(self._config)
        except ConfigError as exc:
            raise SentinelError(str(exc), exit_code=Exit.USAGE) from exc
        if self._runtime is None:
            return settings
        return settings.model_copy(update={"project": settings.project.model_copy(update={"runtime": self._runtime})})


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from sentinelctl import __version__

        sys.stdout.write(f"sentinelctl {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    is_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    is_verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More lines for people.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file; default ./sentinel.toml.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Where services run: auto, docker or embedded.")] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Sentinel: a push goes in, one review comes out, on your own machines."""
    if runtime not in (None, "auto", "docker", "embedded"):
        raise typer.BadParameter("is auto, docker or embedded", param_hint="--runtime")
    ctx.obj = Context(Console(is_json=is_json, is_verbose=is_verbose), config, runtime)


def _register() -> None:
    for name, is_group in COMMANDS:
        module = import_module(f"sentinelctl.cli.{name}")
        if is_group:
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))


def _refuse(console: Console, fault: typer.TyperException) -> None:
    """Words that make no sense, with the option they concern; the help itself where a command was left out."""
    message = getattr(fault, "format_message", fault.__str__)()
    if message.startswith("Usage: ") and not console.is_json:
        console.note(message)
        return
    context = getattr(fault, "ctx", None)
    command = context.command_path if context is not None else "sentinelctl"
    console.error(message, f"`{command} --help` says what there is", Exit.USAGE)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code. SIGTERM is a Ctrl-C: what a command started, it ends."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not app.registered_commands:
        _register()
    console = Console(is_json="--json" in arguments)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(hoist(arguments), prog_name="sentinelctl", standalone_mode=False)
    except SentinelError as exc:
        console.error(exc.message, exc.remedy, exc.exit_code)
        code = exc.exit_code
    except typer.TyperException as exc:
        _refuse(console, exc)
        code = Exit.USAGE
    except (KeyboardInterrupt, typer.Abort):
        console.note("interrupted")
        code = Exit.INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(int(code or 0))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
