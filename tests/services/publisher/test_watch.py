import structlog
from structlog.typing import EventDict

from services.errors import ClaimsUnavailable
from services.publisher.watch import ClaimsWatch


class Claims:
    """Answers as told; an answer of None is no answer."""

    def __init__(self, *answers: float | None) -> None:
        self._answers = list(answers)

    async def known_since(self) -> float:
        answer = self._answers.pop(0)
        if answer is None:
            raise ClaimsUnavailable("the claims store is gone")
        return answer


async def said(*answers: float | None) -> list[EventDict]:
    watch = ClaimsWatch(Claims(*answers))  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as logs:
        for _ in answers:
            await watch.look()
    return logs


async def test_a_store_that_is_there_is_not_worth_a_line():
    assert await said(5.0, 5.0, 5.0) == []


async def test_a_lost_store_is_named_once_and_its_return_too():
    logs = await said(5.0, None, None, None, 5.0, 5.0)
    assert [line["event"] for line in logs] == ["claims.unavailable", "claims.back"]
    assert logs[0]["error"] == "the claims store is gone"


async def test_a_store_that_began_anew_is_named_with_the_time_it_knows_of():
    logs = await said(5.0, None, 9.0, 9.0)
    assert [(line["event"], line.get("known_since")) for line in logs][1:] == [("claims.began_anew", 9.0)]
    assert [line["event"] for line in await said(None, 5.0)] == ["claims.unavailable", "claims.back"]
