import json
from pathlib import Path

import pytest

from model.dataset import DataError
from model.mining.comments import comment_of, read
from model.mining.label import label
from tests.model.triage import made


def test_each_comment_is_given_what_the_rules_say_and_keeps_the_rest(tmp_path: Path) -> None:
    known = [made.comment("this is wrong in a loop"), made.comment("nit: indent", number=2)]
    path = made.write(tmp_path / "reviews" / "made+up.jsonl", known)
    count = label(tmp_path)
    assert count == {("bug", "logic"): 1, ("nit", "style"): 1}
    first, second = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    assert (first["severity"], first["category"], first["rule"]) == ("bug", "logic", 1)
    assert second["severity"] == "nit"
    assert list(read(path)) == known == [comment_of(first), comment_of(second)]
    before = path.read_bytes()
    assert label(tmp_path) == count
    assert path.read_bytes() == before


def test_a_folder_without_comments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no mined comments"):
        label(tmp_path)
