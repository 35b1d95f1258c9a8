import json
from pathlib import Path
from typing import Any

import pytest

from model.dataset import DataError
from model.mining.dismissed import Dismissed, read_dismissed
from tests.model import made

KNOWN = {"bare_except", "debug_print"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    text = "try:\n    run()\nexcept:\n    pass\n"
    return made.history(
        tmp_path / "r", [(1_700_000_000, "add", {"src/a.py": text}), (1_800_000_000, "b", {"b": "x\n"})]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dismissed.jsonl"


def write(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return file


def test_a_finding_of_review_json_is_taken_as_it_is_and_once(file: Path, repository: Path) -> None:
    finding = {"path": "a.py", "line": 3, "concept": "bare_except", "text": "Name it.", "source": "    except:\u2028"}
    write(file, finding, "", finding | {"source": " except:\u2028 "}, finding | {"concept": "debug_print"})
    found = read_dismissed(file, repository, KNOWN)
    assert found == (
        Dismissed("a.py", "bare_except", "    except:\u2028"),
        Dismissed("a.py", "debug_print", "    except:\u2028"),
    )


def test_a_line_is_looked_up_in_its_commit_with_what_stands_around_it(file: Path, repository: Path) -> None:
    write(file, {"path": "src/a.py", "concept": "bare_except", "line": 3, "commit": "HEAD~1"})
    (found,) = read_dismissed(file, repository, KNOWN)
    assert found == Dismissed("src/a.py", "bare_except", "except:", 1_700_000_000, "    run()", "    pass")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"dismissed.jsonl:2 is no JSON: .*; give one object a line"),
        ("[]", "2 lacks path or concept; give both"),
        ({"path": "a.py", "source": "x"}, "2 lacks path or concept"),
        ({"path": "a.py", "concept": "nonsense", "source": "x"}, "names the concept 'nonsense', which is none; `sent"),
        ({"path": "a.py", "concept": "bare_except"}, "does not say which line; give `source`, its text, or `line` and"),
        ({"path": "a.py", "concept": "bare_except", "line": 3}, "does not say which line"),
        ({"path": "a.py", "concept": "bare_except", "source": "  "}, "does not say which line"),
        ({"path": "src/a.py", "concept": "bare_except", "line": 9, "commit": "HEAD"}, "has no line 9 of src/a.py in"),
        ({"path": "src/a.py", "concept": "bare_except", "line": 0, "commit": "HEAD"}, "has no line 0"),
        ({"path": "src/a.py", "concept": "bare_except", "line": 3, "commit": "f" * 40}, "fetch that commit, or give"),
        ({"path": "src/a.py", "concept": "bare_except", "line": 3, "commit": "--help"}, "has no line 3"),
    ],
)
def test_a_row_that_says_too_little_is_refused_by_its_number(
    row: Any, message: str, file: Path, repository: Path
) -> None:
    write(file, {"path": "a.py", "concept": "bare_except", "source": "except:"}, row)
    with pytest.raises(DataError, match=message):
        read_dismissed(file, repository, KNOWN)


def test_a_file_that_cannot_be_read_is_refused(file: Path, repository: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_dismissed(file, repository, KNOWN)
