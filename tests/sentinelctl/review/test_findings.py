from collections.abc import Iterator, Sequence

from model.engine import PART_CHUNKS
from model.inputs.chunk import Chunk
from model.inputs.diff import Hunk, parse_diff
from sentinelctl.review.findings import review_files
from tests.sentinelctl.review.made import Engine, diff, reviewed

BINARY = "diff --git a/p.dat b/p.dat\nindex 1..2 100644\nBinary files a/p.dat and b/p.dat differ\n"


def test_only_what_reaches_its_threshold_and_the_severity_is_shown() -> None:
    text = diff("x #! nit_one nit 0.9", "y #! bug_one bug 0.9", "z #! bug_two bug 0.4")
    result = reviewed(text, "suggestion")
    assert [shown.finding.concept for shown in result.findings] == ["bug_one"]
    assert result.hidden == {"nit": 1}
    assert result.reaches("bug")
    assert not result.reaches("critical")


def test_every_hunk_is_reviewed_or_counted_with_its_reason() -> None:
    text = diff("x") + diff("y", path="vendor/b.py") + diff("z", path="c.zig") + BINARY
    result = reviewed(text)
    assert (result.hunks, result.hunks_reviewed) == (4, 1)
    assert result.skipped == {"vendored": 1, "language_not_taught": 1, "binary": 1}


def test_a_fingerprint_stays_when_the_line_moves_or_is_indented_anew() -> None:
    line = "x #! one bug 0.9"
    (here,) = reviewed(diff(line)).findings
    (moved,) = reviewed(diff("new", "  x   #! one bug 0.9", start=70)).findings
    assert here.finding.line != moved.finding.line
    assert here.fingerprint == moved.fingerprint


def test_lines_alike_files_and_concepts_have_fingerprints_of_their_own() -> None:
    line = "x #! one bug 0.9"
    results = reviewed(diff(line, line, "x #! two bug 0.9") + diff(line, path="b.py")).findings
    assert len({shown.fingerprint for shown in results}) == 4


def test_a_finding_comes_with_the_lines_around_it() -> None:
    (shown,) = reviewed(diff("a", "b", "c", "x #! one bug 0.9", "d", "e", "f")).findings
    assert [line.text for line in shown.source] == ["b", "c", "x #! one bug 0.9", "d", "e"]


def test_an_empty_diff_has_nothing_to_review() -> None:
    result = reviewed("")
    assert (result.findings, result.hunks, result.hunks_reviewed) == ((), 0, 0)


def test_long_work_is_done_in_parts_that_can_be_watched() -> None:
    class Slow(Engine):
        def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
            return tuple(Chunk(index, (), ()) for index in range(PART_CHUNKS + 1))

    sizes: list[int] = []

    def watched(parts: Sequence[Sequence[Chunk]]) -> Iterator[Sequence[Chunk]]:
        sizes.extend(map(len, parts))
        yield from parts

    text = diff("x #! one bug 0.9") + diff("y #! two bug 0.9", path="b.py")
    result = review_files(Slow(), parse_diff(text), "nit", watched)
    assert sizes == [PART_CHUNKS, PART_CHUNKS, 2]
    assert [shown.finding.concept for shown in result.findings] == ["one", "two"]
