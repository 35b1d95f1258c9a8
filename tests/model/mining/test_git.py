import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model import dataset
from model.inputs.diff import Line
from model.labels import load_concepts, rules_of
from model.mining.git import MineOptions, Source, mine
from model.teachers import Diagnostic, Report, Teacher, ruff
from tests.model import made
from tests.sentinelctl.review.test_change import commit, git

NAME = made.named("train", 1)[0]
OPTIONS = MineOptions(commits=100)
PLAIN = "def load(path):\n    return read(path)\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    return folder


def marked(spoken: str = "python", name: str = "ruff", before: Callable[[], object] = lambda: None) -> Teacher:
    """Reports CODE, to the nth row after it, where a line says `!CODE+n`; `!broken` makes a file unparsable."""

    def check(folder: Path, files: Sequence[str]) -> Report:
        before()
        said, broken = [], set()
        for file in files:
            for row, text in enumerate((folder / file).read_text("utf-8", "replace").split("\n"), start=1):
                if "!broken" in text:
                    broken.add(file)
                for code, more in re.findall(r"!([A-Za-z]+[0-9]*)\+([0-9]+)", text):
                    said.append(Diagnostic(file, row, row + int(more), code))
        return Report(tuple(said), frozenset(broken))

    return Teacher(name, (spoken,), check)


def mined(repository: Path, out: Path, *teachers: Teacher, options: MineOptions = OPTIONS) -> list[dict[str, Any]]:
    """The records of a run."""
    mine(repository, NAME, out, teachers, options)
    text = (out / f"{NAME.replace('/', '+')}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def labelled(records: Sequence[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """(path, text of the line, concept) of every label."""
    return {
        (record["path"], record["lines"][int(at)][1].strip(), concept)
        for record in records
        for at, said in record["labels"].items()
        for concept in said
    }


@pytest.fixture
def history(repository: Path) -> Path:
    """A fault in each kind of commit: plain, renamed, merged, vendored, secret, unreadable, in tests, in prose."""
    commit(repository, "a.py", PLAIN)
    commit(
        repository, "a.py", f"{PLAIN}\n\ndef save(path, seen=[]):\n    try:\n        run()\n    except:\n        pass\n"
    )
    git(repository, "mv", "a.py", "b.py")
    commit(
        repository, "b.py", (repository / "b.py").read_text().replace("read(path)", "read(path) if path == None else 1")
    )
    git(repository, "checkout", "-qb", "side")
    commit(repository, "side.py", "assert (x, 'always')\n")
    git(repository, "checkout", "-q", "trunk")
    commit(repository, "own.py", "print(1)\n")
    git(repository, "merge", "-q", "--no-ff", "--no-commit", "side")
    (repository / "own.py").write_text("print(1)\nprint('in the merge alone')\n")
    git(repository, "commit", "-qam", "merge")
    commit(repository, "vendor/copied.py", "print(2)\n")
    commit(repository, "key.py", "print('AKIAABCDEFGHIJKLMNOP', 'jane@corp.example')  # \x1b\n")
    commit(repository, "odd.py", "print(3)\ndef (:\n")
    commit(repository, "tests/test_a.py", "assert x\nprint(4)\nx == None\n")
    commit(repository, "notes.md", "print(5)\n")
    return repository


def test_what_an_analyzer_says_of_an_added_line_is_its_label(history: Path, tmp_path: Path) -> None:
    teacher = ruff.teacher([rule for rule, _ in rules_of("ruff", load_concepts())])
    records = mined(history, tmp_path / "out", teacher)
    found = labelled(records)
    assert found >= {
        ("a.py", "def save(path, seen=[]):", "mutable_default"),
        ("a.py", "except:", "bare_except"),
        ("b.py", "return read(path) if path == None else 1", "none_eq_compare"),
        ("own.py", "print(1)", "debug_print"),
        ("tests/test_a.py", "x == None", "none_eq_compare"),
    }
    assert {path for path, _, _ in found} <= {"a.py", "b.py", "side.py", "own.py", "key.py", "tests/test_a.py"}
    assert not any("merge alone" in text for _, text, _ in found)  # a merge adds nothing of its own
    (tests,) = (record for record in records if record["path"].startswith("tests/"))
    assert (set(tests["labels"]), tests["unsure"]) == (
        {"0", "1", "2"},
        [],
    )  # asked of tests or not: who reads it decides
    assert {record["path"] for record in records} == {path for path, _, _ in found} | {"side.py"}  # odd.py says nothing


def test_merges_take_no_place_in_the_sample(history: Path, tmp_path: Path) -> None:
    plain = int(git(history, "rev-list", "--no-merges", "--count", "HEAD"))
    assert plain < int(git(history, "rev-list", "--count", "HEAD"))
    drawn = mined(history, tmp_path / "drawn", marked(), options=MineOptions(commits=plain))
    every = mined(history, tmp_path / "every", marked())
    assert {(each["sha"], each["path"]) for each in drawn} == {(each["sha"], each["path"]) for each in every}


def test_a_rename_is_one_change_of_the_lines_that_differ(history: Path, tmp_path: Path) -> None:
    (record,) = (each for each in mined(history, tmp_path / "out", marked()) if each["path"] == "b.py")
    assert [text.strip() for kind, text in record["lines"] if kind == "add"] == [
        "return read(path) if path == None else 1"
    ]


def test_addresses_and_secrets_never_reach_the_disk(history: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mined(history, out, marked())
    written = "".join(path.read_text("utf-8") for path in out.iterdir())
    assert "AKIA" not in written
    assert "jane" not in written
    assert f"print('{'x' * 20}', 'user@example.org')" in written


def test_a_secret_in_the_heading_of_a_hunk_goes_too(repository: Path, tmp_path: Path) -> None:
    body = "".join(f"    x{n}()\n" for n in range(12))
    commit(repository, "a.py", f"def send(to='jane@corp.example'):\n{body}")
    commit(repository, "a.py", f"def send(to='jane@corp.example'):\n{body}    end()\n")
    sections = [record["hunk"][4] for record in mined(repository, tmp_path / "out", marked())]
    assert "def send(to='user@example.org'):" in sections


def test_records_read_back_as_hunks_with_their_labels(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", PLAIN)
    commit(repository, "a.py", f"import os\n{PLAIN}except_ = 1  # !E722+0, except\n")
    mined(repository, tmp_path / "out", marked())
    second = next(
        each for each in dataset.read(tmp_path / "out", "train") if any(x.kind == "ctx" for x in each.hunk.lines)
    )
    assert (second.repository, second.language, second.hunk.path) == (NAME, "python", "a.py")
    ((at, said),) = second.labels.items()
    assert said == ("bare_except",)
    assert second.hunk.lines[at] == Line("add", "except_ = 1  # !E722+0, except", None, 4)


def test_a_finding_that_needs_lines_the_hunk_does_not_show_is_unsure(repository: Path, tmp_path: Path) -> None:
    tail = "".join(f"x{n}()\n" for n in range(20))
    commit(repository, "a.py", tail)
    commit(repository, "a.py", f"one()  # !E722+3\ntwo()  # !E722+9\n{tail}")
    record = next(each for each in mined(repository, tmp_path / "out", marked()) if each["unsure"])
    assert record["labels"] == {"0": ["bare_except"]}
    assert record["unsure"] == [1]


def test_a_file_that_one_analyzer_cannot_read_says_nothing(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", "fail()  # !E722+0 !broken\n")
    commit(repository, "b.py", "fail()  # !E722+0\n")
    records = mined(repository, tmp_path / "out", marked(), Teacher("other", ("python",), lambda *_: Report(())))
    assert [record["path"] for record in records] == ["b.py"]


def test_each_analyzer_is_given_the_files_of_its_languages(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", "fail()  # !E722+0\n")
    commit(repository, "run", "#!/bin/sh\n")
    commit(repository, "b.sh", "rm $x  # !SC2086+0\n")
    found = labelled(mined(repository, tmp_path / "out", marked(), marked("shell", "shellcheck")))
    assert found == {
        ("a.py", "fail()  # !E722+0", "bare_except"),
        ("b.sh", "rm $x  # !SC2086+0", "unquoted_variable"),
    }


def test_a_concept_is_no_label_in_a_language_it_does_not_speak(repository: Path, tmp_path: Path) -> None:
    line = "x = (int)y; // !cstyleCast+0"
    commit(repository, "a.c", f"{line}\n")
    commit(repository, "a.cpp", f"{line}\n")
    found = labelled(mined(repository, tmp_path / "out", marked("c", "cppcheck"), marked("cpp", "cppcheck")))
    assert found == {("a.cpp", line, "c_style_cast")}


def test_a_code_the_catalog_leaves_out_is_no_label(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", "fail()  # !F401+0\n")
    (record,) = mined(repository, tmp_path / "out", marked())
    assert (record["labels"], record["unsure"]) == ({}, [])


def test_large_files_hunks_and_lines_are_bounded(repository: Path, tmp_path: Path) -> None:
    commit(repository, "large.py", "x()\n" * 30_000)
    commit(repository, "long.py", "".join(f"x{n}()\n" for n in range(500)))
    commit(repository, "wide.py", f"x = '{'ab ' * 1000}'\n")
    records = {record["path"]: record for record in mined(repository, tmp_path / "out", marked())}
    assert set(records) == {"long.py", "wide.py"}
    assert len(records["long.py"]["lines"]) == 120
    assert len(records["wide.py"]["lines"][0][1]) == 400


def test_no_analyzer_is_asked_about_no_file(repository: Path, tmp_path: Path) -> None:
    commit(repository, "large.py", "x()\n" * 30_000)
    assert mined(repository, tmp_path / "out", marked(before=lambda: pytest.fail("there is no file"))) == []


def test_one_large_commit_does_not_fill_the_sample(repository: Path, tmp_path: Path) -> None:
    lines = [f"x{n}()\n" for n in range(400)]
    commit(repository, "a.py", "".join(lines))
    commit(repository, "a.py", "".join(f"changed{line}" if at % 20 == 0 else line for at, line in enumerate(lines)))
    records = mined(repository, tmp_path / "out", marked())
    assert sum(any(kind == "del" for kind, _ in record["lines"]) for record in records) == 10


def test_commits_and_files_are_drawn_by_the_seed(repository: Path, tmp_path: Path) -> None:
    for n in range(12):
        commit(repository, f"{n}.py", f"x = {n}\n")

    def paths(run: str, **options: Any) -> list[str]:
        return [each["path"] for each in mined(repository, tmp_path / run, marked(), options=MineOptions(**options))]

    assert len(paths("all")) == 12
    assert len(paths("commits", commits=5)) == 5
    assert len(paths("files", max_files=4)) == 4
    assert len(paths("files of python", max_files=4, files_of={"python": 7, "go": 1})) == 7
    assert paths("commits again", commits=5) == paths("commits", commits=5)
    assert paths("another seed", commits=5, seed=8) != paths("commits", commits=5)


def test_a_mined_repository_is_not_mined_again(history: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "out", list[int]()
    teacher = marked(before=lambda: calls.append(1))
    first = mine(history, NAME, out, [teacher], OPTIONS)
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(files) == [f"{NAME.replace('/', '+')}.json", f"{NAME.replace('/', '+')}.jsonl"]
    number = len(calls)
    commit(history, "more.py", "print(6)\n")
    assert mine(history, NAME, out, [teacher], OPTIONS) == first
    assert len(calls) == number > 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files


def test_an_interrupted_run_leaves_no_data_and_the_next_one_is_whole(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", "fail()  # !E722+0\n")
    commit(repository, "b.sh", "rm $x  # !SC2086+0\n")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mined(repository, tmp_path / "out", marked(), marked("shell", "shellcheck", before=interrupted))
    assert list((tmp_path / "out").glob("*.json*")) == []
    assert list(dataset.read(tmp_path / "out", "train")) == []
    records = mined(repository, tmp_path / "out", marked(), marked("shell", "shellcheck"))
    assert sorted(record["path"] for record in records) == ["a.py", "b.sh"]


def test_the_summary_says_what_was_mined_from_what(repository: Path, tmp_path: Path) -> None:
    commit(repository, "LICENSE", "MIT License\n\nPermission is hereby granted, free of charge, to any person")
    commit(repository, "a.py", "fail()  # !E722+0\nx = 1\n")
    source = mine(repository, NAME, tmp_path / "out", [marked()], MineOptions(commits=2))
    assert source == Source(NAME, git(repository, "rev-parse", "HEAD"), "MIT", 2, hunks=1, lines=2, findings=1)
    summary = json.loads((tmp_path / "out" / f"{NAME.replace('/', '+')}.json").read_text())
    assert Source(**summary) == source


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        ("LICENSE", "Apache License\nVersion 2.0, January 2004", "Apache-2.0"),
        ("COPYING", "GNU GENERAL PUBLIC\n   LICENSE Version 2", "GPL"),
        ("licence.txt", "Redistribution and use in source\nand binary forms", "BSD"),
        ("LICENSE.md", "All rights reserved.", "see repository"),
        ("LICENSE", "Apache License, or: Permission is hereby granted, free of charge", "see repository"),
        ("README", "MIT License. Permission is hereby granted, free of charge", "see repository"),
    ],
)
def test_the_licence_is_named_by_its_opening_words(
    name: str, text: str, licence: str, repository: Path, tmp_path: Path
) -> None:
    commit(repository, name, text)
    assert mine(repository, NAME, tmp_path / "out", [marked()], OPTIONS).licence == licence


def test_a_history_with_nothing_to_read_is_mined_to_nothing(repository: Path, tmp_path: Path) -> None:
    commit(repository, "notes.md", "no code here\n")
    source = mine(repository, NAME, tmp_path / "out", [marked()], OPTIONS)
    assert (source.hunks, source.lines, source.findings) == (0, 0, 0)


def test_a_commit_whose_objects_a_partial_clone_lacks_is_left_out(repository: Path, tmp_path: Path) -> None:
    for n in range(5):
        commit(repository, f"{n}.py", f"x = {n}\n")
    blob = git(repository, "rev-parse", "HEAD:2.py")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    paths = [record["path"] for record in mined(repository, tmp_path / "out", marked())]
    assert sorted(paths) == ["0.py", "1.py", "3.py", "4.py"]


def test_a_nul_far_into_a_file_does_not_cut_the_log(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", "x = 1\n" * 2000 + "y = '\0'  # far enough for git to call it text\n")
    commit(repository, "b.py", "x = 1\n")
    assert {record["path"] for record in mined(repository, tmp_path / "out", marked())} == {"a.py", "b.py"}


def test_what_fixing_commits_took_away_is_mined_as_if_it_had_been_added(repository: Path, tmp_path: Path) -> None:
    commit(repository, "a.py", "one()  # !T201+0\ntwo()  # !T201+0\nkept()\n")
    commit(repository, "a.py", "two()  # !T201+0\nkept()\n")
    (repository / "a.py").write_text("kept()\nfixed()\n")
    git(repository, "commit", "-qam", "Prefix the names")
    (repository / "a.py").write_text("kept()\nfixed()\nthree()  # !T201+0\n")
    git(repository, "commit", "-qam", "Add a third")
    (repository / "a.py").write_text("kept()\nfixed()\n")
    git(repository, "commit", "-qam", "It crashed, fixes #3")
    (record,) = mined(repository, tmp_path / "out", marked(), options=MineOptions(100, is_undone=True))
    assert [text for kind, text in record["lines"] if kind == "add"] == ["three()  # !T201+0"]
    assert record["labels"] == {"2": ["debug_print"]}
    assert (record["sha"], record["path"]) == (git(repository, "rev-parse", "HEAD"), "a.py")
