"""Who may cause an effect, and whether it already happened: the claims of every role, behind one factory."""

from services.claims.base import Claims
from services.claims.sqlite import SqliteClaims
from services.settings import Settings


def open_claims(settings: Settings) -> Claims:
    """The store the settings name; nothing is opened before the first call."""
    return SqliteClaims(settings.claims_path)
