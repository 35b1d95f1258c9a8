"""Looks at the claims while the publisher runs, with work or without."""

import asyncio

import structlog

from services.claims.base import Claims
from services.errors import ClaimsUnavailable

log = structlog.get_logger(__name__)


class ClaimsWatch:
    """A store that is new, or that lost what it had, knows nothing of events older than itself: so it is asked at all
    times, to begin before the next event comes. Says once that it is lost, and once that it is back.
    """

    def __init__(self, claims: Claims, *, every_s: float = 2.0) -> None:
        self._claims = claims
        self._every_s = every_s
        self._since = 0.0
        self._is_lost = False

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.look()

    async def look(self) -> None:
        try:
            since = await self._claims.known_since()
        except ClaimsUnavailable as exc:
            if not self._is_lost:
                log.warning("claims.unavailable", error=str(exc))
            self._is_lost = True
            return
        if self._since not in (0.0, since):
            log.warning("claims.began_anew", known_since=since, remedy="older events are looked up on GitHub first")
        elif self._is_lost:
            log.info("claims.back", known_since=since)
        self._since, self._is_lost = since, False
