"""Who may cause an effect, and whether it already happened: the claims of every role, behind one factory."""

from services.claims.base import Claims
from services.claims.sqlite import SqliteClaims
from services.settings import Settings


def open_claims(settings: Settings, *, on_thread: bool = True) -> Claims:
    """The store the settings name; nothing is opened before the first call. Raises ConfigError.

    on_thread: SQLite has a thread of its own; else the event loop waits for it, which suits a process that does nothing
    else.
    """
    if settings.claims.kind == "redis":
        from services.claims.redis import RedisClaims  # its client takes 0.2 s to import

        return RedisClaims(settings.claims, settings.project.name)
    return SqliteClaims(settings.claims_path, on_thread=on_thread)
