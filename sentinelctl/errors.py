"""Errors that end a command: what happened, what to do next, and the exit code."""

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    ERROR = 1
    USAGE = 2
    PREFLIGHT = 3
    UNHEALTHY = 4
    LOCKED = 5
    THRESHOLD = 99
    CHANGES_PENDING = 100
    INTERRUPTED = 130


class SentinelError(Exception):
    """`message` says what happened and what was seen; `remedy` says what to do."""

    exit_code: Exit = Exit.ERROR

    def __init__(self, message: str, *, remedy: str = "", exit_code: Exit | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(SentinelError):
    """The words of the command, or the settings it reads, make no sense."""

    exit_code = Exit.USAGE


class PreflightError(SentinelError):
    """Something the command needs is missing or taken; nothing was changed."""

    exit_code = Exit.PREFLIGHT


class UnhealthyError(SentinelError):
    """A service did not become healthy, or stopped being so, within its deadline."""

    exit_code = Exit.UNHEALTHY


class LockedError(SentinelError):
    """Another sentinelctl holds the project's lock."""

    exit_code = Exit.LOCKED
