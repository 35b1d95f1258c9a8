import json
import random
from pathlib import Path
from typing import Any

import pytest

from model import dataset
from model.inputs.diff import parse_diff
from model.labels import load_concepts, rules_of
from model.mining import hints, inject
from model.mining.git import MineOptions, mine
from model.teachers import astgrep, ruff
from tests.model import made
from tests.sentinelctl.review.test_change import commit, git

TRAINED, TESTED = made.named("train", 1)[0], made.named("test", 1)[0]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    return folder


def drawn(repository: Path, out: Path, draw: dataset.Draw, name: str = TRAINED, **options: int) -> list[dict[str, Any]]:
    teacher = ruff.teacher([rule for rule, _ in rules_of("ruff", load_concepts())])
    mine(repository, name, out, [teacher], MineOptions(**options), draw)
    return [json.loads(line) for line in (out / dataset.file_name(name, draw)).read_text("utf-8").splitlines()]


def test_grave_commits_are_found_outside_the_sample(repository: Path, tmp_path: Path) -> None:
    for n in range(20):
        commit(repository, f"plain{n}.py", f"x = {n}\n")
        commit(repository, f"grave{n}.py", f"value = {n}\nresult = eval(value)\n")
    sample = drawn(repository, tmp_path / "out", "sample", commits=10)
    grave = drawn(repository, tmp_path / "out", "grave", commits=10)
    assert len(sample) == 10
    assert 10 < len(grave) <= 20
    assert {record["path"][:5] for record in grave} == {"grave"}
    assert {record["sha"] for record in grave}.isdisjoint(record["sha"] for record in sample)
    assert all(record["labels"]["1"] == ["eval_exec"] for record in grave)
    assert len(drawn(repository, tmp_path / "few", "grave", commits=10, searched=4)) <= 4


@pytest.mark.parametrize(
    "line",
    [
        'cursor.execute("SELECT a FROM b WHERE c = %s" % d)', "subprocess.run(command, shell=True)",
        "requests.get(url, verify=False)", "yaml.load(text)", "eval(text)", 'db_password = "hunter2"',
        "os.chmod(path, 0o777)", "element.innerHTML = text;", 'rm -rf "$root/"', "strcpy(to, from);",
        "printf(text);", "curl -s https://example.org | sh", "InsecureSkipVerify: true,",
        "jwt.decode(token, verify=False)",
    ],
)  # fmt: skip
def test_the_words_of_grave_faults_are_known(line: str) -> None:
    assert hints.in_line(line)
    assert hints.in_patch(f"--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+{line}\n".encode())
    assert not hints.in_patch(f"--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n {line}\n-{line}\n".encode())


@pytest.mark.parametrize("line", ["x = 1", "for each in found:", "return render(page)"])
def test_most_lines_have_no_such_word(line: str) -> None:
    assert not hints.in_line(line)


def test_a_fault_put_into_a_commit_is_a_label_only_where_the_analyzer_names_it(
    repository: Path, tmp_path: Path
) -> None:
    for n in range(12):
        commit(repository, f"{n}.py", "".join(f"total_{n}_{at} = compute(record, {at})\n" for at in range(8)))
    records = drawn(repository, tmp_path / "out", "injected", max_files=48)
    assert 3 <= len(records) <= 12
    concepts = {fault.concept for fault in inject.load_faults()}
    for record in records:
        for at in record["injected"]:
            kind, text = record["lines"][at]
            assert kind == "add"
            assert "compute(record" not in text
            assert concepts & set(record["labels"][str(at)])
        assert len(record["lines"]) == 8 + len(record["injected"])
    again = drawn(repository, tmp_path / "again", "injected", max_files=48)
    assert again == records


def test_test_repositories_get_faults_that_are_never_taught(repository: Path, tmp_path: Path) -> None:
    for n in range(12):
        commit(repository, f"{n}.py", "".join(f"total_{n}_{at} = compute(record, {at})\n" for at in range(8)))
    for name, is_for_test in ((TRAINED, False), (TESTED, True)):
        records = drawn(repository, tmp_path / "out", "injected", name, max_files=48)
        said = {concept for record in records for at in record["injected"] for concept in record["labels"][str(at)]}
        allowed = {
            fault.concept
            for fault in inject.load_faults()
            if "python" in fault.languages and fault.is_for_test == is_for_test
        }
        assert said & allowed


def test_what_a_file_s_diff_says_after_faults_were_put_in_is_what_the_file_says() -> None:
    old = "".join(f"before_{n} = load(path)\n" for n in range(40))
    patch = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n"
    for at in (1, 21):
        shift = 0 if at == 1 else 2
        patch += (
            f"@@ -{at},3 +{at + shift},5 @@\n before_{at - 1} = load(path)\n+added = read(name)\n+more = read(name)\n"
        )
        patch += f" before_{at} = load(path)\n before_{at + 1} = load(path)\n"
    (file,) = parse_diff(patch)
    lines = old.split("\n")
    new = [*lines[:1], "added = read(name)", "more = read(name)", *lines[1:21], "added = read(name)",
           "more = read(name)", *lines[21:]]  # fmt: skip
    found = inject.inject(file, "\n".join(new), "python", "train", random.Random(3), most=6)
    assert found is not None
    rows = found.text.split("\n")
    assert len(found.concepts) == 2
    assert len(rows) == len(new) + 2
    shown = {line.new: line.text for hunk in found.diff.hunks for line in hunk.lines if line.new}
    assert all(rows[number - 1] == text for number, text in shown.items())
    assert all(number in shown for number in found.concepts)


def test_nothing_is_put_where_no_added_line_ends_a_statement() -> None:
    (file,) = parse_diff("diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -0,0 +1,2 @@\n+call(\n+if x:\n")
    assert inject.inject(file, "call(\nif x:\n", "python", "train", random.Random(1), most=6) is None


def test_every_concept_with_faults_has_some_to_teach() -> None:
    by_id = {concept.id: concept for concept in load_concepts()}
    taught, tested = set(), set()
    for fault in inject.load_faults():
        assert all(by_id[fault.concept].speaks(spoken) for spoken in fault.languages), fault
        (tested if fault.is_for_test else taught).add(fault.concept)
    assert taught == {fault.concept for fault in inject.load_faults()}
    assert len(tested) >= 30


def test_the_analyzers_see_the_faults_of_other_languages_too(repository: Path, tmp_path: Path) -> None:
    body = "".join(f"\tvalue{at} := compute({at})\n" for at in range(6))
    for n in range(8):
        commit(repository, f"{n}.go", f"package main\n\nfunc run{n}() {{\n{body}}}\n")
    mine(repository, TRAINED, tmp_path / "out", [astgrep.teacher()], MineOptions(max_files=32), "injected")
    lines = (tmp_path / "out" / dataset.file_name(TRAINED, "injected")).read_text("utf-8").splitlines()
    assert lines


def test_fixes_are_small_hunks_of_as_many_lines_before_as_after(repository: Path, tmp_path: Path) -> None:
    body = "".join(f"line_{n} = {n}\n" for n in range(30))
    commit(repository, "a.py", body)
    steps = [
        ("Fix the crash on an empty name", "line_3 = 3", "line_3 = 4"),
        ("Fix typo in the docs", "line_9 = 9", "line_9 = 10"),
        ("Add a feature", "line_15 = 15", "line_15 = 16"),
        ("Fixed wrong total", "line_20 = 20", "line_20 = 21\nline_20b = 1"),
    ]
    text = body
    for message, before, after in steps:
        text = text.replace(f"{before}\n", f"{after}\n")
        commit(repository, "a.py", text)
        git(repository, "commit", "-q", "--amend", "-m", message)
    (record,) = drawn(repository, tmp_path / "out", "fixes")
    assert [line for line in record["lines"] if line[0] != "ctx"] == [["del", "line_3 = 3"], ["add", "line_3 = 4"]]
    assert record["labels"] == {}
