"""Hunks that inference did not take in time, as records of `diff-chunks`."""

from collections.abc import Sequence

from sentinel.v1.events_pb2 import Place, ReviewReady, ReviewRequest

from model.inputs.diff import Hunk
from services.codec import encode
from services.contract import Topic
from services.review import fit, fits, hunk_message, pieces, skip
from services.stream.base import Producer
from services.stream.types import NewRecord


async def overflow(
    producer: Producer, key: bytes, so_far: ReviewReady, hunks: Sequence[Hunk], *, asked_at_ns: int, max_bytes: int
) -> NewRecord:
    """One record for all of `hunks`, to be appended by the caller.

    Where it would be longer than `max_bytes`, the hunks are appended here, in pieces, and it names their places; what
    a crash in between leaves behind is read by nobody. A hunk that is too long for any record is counted as skipped.
    Raises BusUnavailable.
    """
    messages = [hunk_message(hunk) for hunk in hunks]
    fitting = [one for one in messages if fits(one, max_bytes)]
    if too_large := len(messages) - len(fitting):
        skip(so_far, {"too_large": too_large})
    request = ReviewRequest(so_far=so_far, hunks=fitting, asked_at_ns=asked_at_ns)
    if request.ByteSize() > max_bytes:
        del request.hunks[:]
        parts = [ReviewRequest(hunks=part) for part in pieces(fitting, max_bytes)]
        records = [NewRecord(Topic.DIFF_CHUNKS, key, encode(part)) for part in parts]
        appended = await producer.append(records)
        request.pieces.extend(Place(partition=place.partition, offset=place.offset) for place in appended)
        fit(request.so_far, max_bytes // 2)
    return NewRecord(Topic.DIFF_CHUNKS, key, encode(request))
