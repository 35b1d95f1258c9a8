"""What a handler raises, sorted by what the runner does next. Anything else stops the replica loudly."""


class Deferred(Exception):
    """The outside is at fault (rate limit, 5xx, timeout, lost bus, lost claims).

    The runner pauses the partition, keeps polling, and tries the record again after `retry_after_s`; the record's
    retries are not used up.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Retryable(Exception):
    """The record itself failed, and may succeed later: it uses up one of its retries."""


class Poison(Exception):
    """The record can never succeed: it becomes a dead letter at once, with `reason` as its code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RecordTooLarge(Poison):
    """A producer refused it, and no retry makes it smaller. Where it would have followed from a record, that one is
    dead-lettered."""

    def __init__(self, message: str) -> None:
        super().__init__("too_large", message)


class ConfigError(Exception):
    """A service cannot start as configured; the message says what is wrong and how to mend it. Exit code 2."""


class BusUnavailable(Deferred):
    """The log did not take or give a record."""


class ClaimsUnavailable(Deferred):
    """The claims store did not answer."""
