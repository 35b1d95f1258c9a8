import pytest

from services.github.types import Anchor, ChangedFile
from services.publisher.anchors import MAX_TRIES, outside, parts

PATCH = "@@ -3,3 +3,3 @@ def f():\n a\n-b\n+c\n d\n@@ -20 +20,2 @@\n--- x\n+++ y\n+z\n\\ No newline at end of file"


@pytest.mark.parametrize(
    ("line", "side", "is_inside"),
    [
        (3, "RIGHT", True),
        (3, "LEFT", True),
        (4, "LEFT", True),
        (4, "RIGHT", True),
        (5, "RIGHT", True),
        (2, "RIGHT", False),
        (6, "RIGHT", False),
        (20, "LEFT", True),
        (21, "RIGHT", True),
        (22, "RIGHT", False),
    ],
)
def test_an_anchor_is_inside_where_a_hunk_has_its_line(line: int, side: str, is_inside: bool) -> None:
    files = [ChangedFile(filename="a.py", status="modified", patch=PATCH)]
    assert outside([("a.py", line, side)], files) == (frozenset() if is_inside else {("a.py", line, side)})


def test_a_file_without_a_patch_or_out_of_the_diff_has_no_line() -> None:
    anchors: list[Anchor] = [("a.bin", 1, "RIGHT"), ("gone.py", 1, "RIGHT")]
    assert outside(anchors, [ChangedFile(filename="a.bin", status="modified")]) == set(anchors)


@pytest.mark.parametrize("count", [0, 1, 3, 8, 9, 50])
def test_each_anchor_is_left_out_once_in_few_tries(count: int) -> None:
    anchors: list[Anchor] = [("a.py", line, "RIGHT") for line in range(count)]
    left_out = list(parts([*anchors, *anchors[:1]]))
    assert len(left_out) <= MAX_TRIES
    assert sorted(anchor for part in left_out for anchor in part) == anchors
    assert count > MAX_TRIES or all(len(part) == 1 for part in left_out)
