"""Commit histories to labelled hunks: what the analyzers say of the lines a commit added, in the version after it.

A repository becomes one JSON-lines file for each way of drawing from it, a hunk a line, written under a temporary name
and renamed when whole, so that a run that is repeated goes on where it stopped. Other people's text stays in that
folder: it never enters the product.
"""

import json
import random
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from model.dataset import Draw, file_name, split_of
from model.inputs.diff import DiffError, FileDiff, Hunk, LineKind, number_lines, parse_diff
from model.inputs.files import is_test_path, language, says_generated, skip_reason
from model.labels import Concept, concept_of, load_concepts, rules_of
from model.mining import hints, inject
from model.mining.private import drop_secrets
from model.teachers import Diagnostic, Teacher

_BATCH: Final = 300  # files an analyzer is given at once
_MAX_FILE_BYTES: Final = 48_000
_MAX_HUNKS: Final = 10  # of one commit, so that one large change does not fill the sample
_MAX_LINES: Final = 120  # of one hunk; the rest is left out
_MAX_LINE_CHARS: Final = 400
_LICENCE_CHARS: Final = 1500
_LOG_AT_ONCE: Final = 500  # commits whose patches are held in memory together
_MAX_FIX_FILES: Final = 3
_MAX_FIX_LINES: Final = 12  # of a hunk, on either side
_SHARE: Final = {"grave": 2, "injected": 4, "whole": 4}  # of the sample's files that such a draw has
_TREES: Final = 4  # moments of a history from which whole files are taken
_PIECES: Final = (1, 2, 4, 8, 16, 32, 64)  # lines of a piece of a whole file, as hunks of commits have them
_MAX_PIECES: Final = 40  # of a whole file; each costs no further look of an analyzer
_CONTEXT: Final = 3  # lines beside a piece that are not of it, as git gives a hunk
_INJECTED_OF_FILE: Final = 6
_FIX: Final = re.compile(
    r"(?i)\b(fix(es|ed)?|bug|crash(es)?|regression|closes #\d+|off.by.one|race|leak|wrong|incorrect)\b"
)
_NO_FIX: Final = re.compile(
    r"(?i)\b(typos?|docs?|readme|lint|flake8|pep ?8|style|format(ting)?|whitespace|indent\w*|tests?|ci|build|warnings?"
    r"|comments?)\b"
)
_COMMIT: Final = re.compile(rb"\0([0-9a-f]{40}) ([0-9]+)\n")


@dataclass(frozen=True, slots=True)
class MineOptions:
    commits: int = 400  # sampled from a repository's history, merges left out
    seed: int = 7
    max_files: int = 600  # file versions a repository gives each teacher
    files_of: Mapping[str, int] = field(default_factory=dict)  # the same for a language, where it is another number
    searched: int = 8000  # further commits looked through for grave faults, and for fixes
    max_fixes: int = 200  # hunks
    is_undone: bool = False  # the sample is of fixing commits turned around: it adds what they took away


@dataclass(frozen=True, slots=True)
class Source:
    """One mined repository, as it stands in sources.tsv."""

    name: str
    head: str
    licence: str
    commits: int
    hunks: int
    lines: int
    findings: int


def mine(
    repository: Path, name: str, out: Path, teachers: Sequence[Teacher], options: MineOptions, draw: Draw = "sample"
) -> Source:
    """Writes one draw of a repository and its summary beside it; one that is already there is not drawn again.

    name: owner/name. `sample`: commits drawn evenly, the only draw that tells how frequent anything is. `grave`: other
    commits whose added lines have words of grave faults. `injected`: the sample with faults put in, `injected` naming
    their lines. `whole`: pieces of files as they stood at a few moments, every line as if it had just been added; an
    analyzer reads the whole file for any draw, so this gives the most lines for its time. `fixes`: small hunks of
    commits that say they fix something, as many lines before as after, unlabelled.

    Each line of a file: repository, sha, time (Unix s), path, language, hunk (the @@ numbers and section), lines
    [[kind, text], …], labels {index into lines: [concept, …]} and unsure [index, …], the added lines about which no
    teacher could speak.
    """
    target = out / file_name(name, draw)
    summary = target.with_suffix(".json")
    if summary.exists():
        return Source(**json.loads(summary.read_text("utf-8")))
    out.mkdir(parents=True, exist_ok=True)
    count = Counter(hunks=0, lines=0, findings=0)
    part = target.with_suffix(".part")
    records = (
        _fixes(repository, name, options) if draw == "fixes" else _records(repository, name, teachers, options, draw)
    )
    with part.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count["hunks"] += 1
            count["lines"] += sum(kind == "add" for kind, _ in record["lines"])
            count["findings"] += len(record["labels"])
    part.rename(target)
    source = Source(name, _git(repository, "rev-parse", "HEAD").strip(), _licence(repository), options.commits, **count)
    summary.write_text(json.dumps(asdict(source)) + "\n", "utf-8")
    return source


@dataclass(frozen=True, slots=True)
class _Change:
    sha: str
    time: int
    file: FileDiff
    blob: str


def _records(
    repository: Path, name: str, teachers: Sequence[Teacher], options: MineOptions, draw: Draw
) -> Iterator[dict[str, Any]]:
    taught = {one for teacher in teachers for one in teacher.languages}
    by_language: dict[str, list[_Change]] = defaultdict(list)
    for change in _drawn(repository, options, draw):
        if language(change.file.path) in taught:
            by_language[language(change.file.path)].append(change)
    concepts = load_concepts()
    for spoken, all_of in sorted(by_language.items()):
        number = options.files_of.get(spoken, options.max_files) // _SHARE.get(draw, 1)
        chosen = random.Random(options.seed).sample(all_of, min(number, len(all_of)))
        own = [teacher for teacher in teachers if spoken in teacher.languages]
        most = _MAX_PIECES if draw == "whole" else _MAX_HUNKS
        for start in range(0, len(chosen), _BATCH):
            batch = chosen[start : start + _BATCH]
            with tempfile.TemporaryDirectory() as folder:
                files = _write(repository, batch, Path(folder))
                put: dict[str, dict[int, str]] = {}
                if draw == "injected":
                    batch, put = _inject(name, batch, files, Path(folder), spoken, options.seed)
                elif draw == "whole":
                    batch = _as_added(batch, files, Path(folder))
                said, unsure = _ask(own, Path(folder), sorted(set(files.values())), concepts, spoken)
            for change in batch:
                if change.blob not in files or files[change.blob] in unsure:
                    continue
                records = _label(name, change, said[files[change.blob]], spoken, most)
                if draw == "grave":
                    yield from (
                        each for each in records if any(k == "add" and hints.in_line(t) for k, t in each["lines"])
                    )
                elif draw == "injected":
                    yield from _seen(records, put[change.blob])
                else:
                    yield from records


def _drawn(repository: Path, options: MineOptions, draw: Draw) -> Iterator[_Change]:
    if draw == "whole":
        return _files(repository, options.seed)
    sample, others = _shas(repository, options)
    if draw == "grave":
        return _changes(repository, others, hints.in_patch)
    return _changes(repository, sample, turn=("-R",) if options.is_undone else ())


def _files(repository: Path, seed: int) -> Iterator[_Change]:
    """Each path of a few moments of the history once, in one of its versions there; the diff has no hunks yet."""
    commits = [line.split() for line in _git(repository, "log", "--no-merges", "--format=%H %ct", "HEAD").splitlines()]
    chance = random.Random(seed)
    versions: dict[str, list[_Change]] = defaultdict(list)
    for sha, time in commits[:1] + chance.sample(commits[1:], min(_TREES - 1, len(commits[1:]))):
        for entry in _git(repository, "ls-tree", "-r", "-z", sha).split("\0"):
            about, _, path = entry.partition("\t")
            if about.startswith("100") and skip_reason(path) is None:
                diff = FileDiff(path, None, "added", "text", ())
                versions[path].append(_Change(sha, int(time), diff, about.split()[2]))
    for _, changes in sorted(versions.items()):
        yield chance.choice(changes)


def _as_added(changes: Sequence[_Change], files: dict[str, str], folder: Path) -> list[_Change]:
    """The written files as diffs that add them, in pieces, each with what stands beside it."""
    added = []
    for change in changes:
        if change.blob not in files:
            continue
        chance = random.Random(change.blob)
        lines = (folder / files[change.blob]).read_bytes().decode("utf-8", "replace").removesuffix("\n").split("\n")
        hunks, at = [], 0
        while at < len(lines):
            end = min(at + chance.choice(_PIECES), len(lines))
            first, last = max(0, at - _CONTEXT), min(end + _CONTEXT, len(lines))
            piece: list[tuple[LineKind, str]] = [
                ("add" if at <= row < end else "ctx", lines[row]) for row in range(first, last)
            ]
            beside = len(piece) - (end - at)
            old = (first + 1, beside) if beside else (0, 0)
            hunks.append(number_lines(change.file.path, old, (first + 1, len(piece)), "", piece))
            at = end
        if not says_generated(hunks):
            added.append(replace(change, file=replace(change.file, hunks=tuple(hunks))))
    return added


def _inject(
    name: str, changes: Sequence[_Change], files: dict[str, str], folder: Path, spoken: str, seed: int
) -> tuple[list[_Change], dict[str, dict[int, str]]]:
    """Puts faults into the written files; returns the changes as they then are, and by blob each fault's concept."""
    changed, put = [], {}
    for change in changes:
        if change.blob not in files or change.blob in put:
            continue
        path = folder / files[change.blob]
        chance = random.Random(f"{seed} {change.blob}")
        text = path.read_bytes().decode("utf-8", "replace")
        if found := inject.inject(change.file, text, spoken, split_of(name), chance, _INJECTED_OF_FILE):
            path.write_text(found.text, "utf-8")
            changed.append(_Change(change.sha, change.time, found.diff, change.blob))
            put[change.blob] = found.concepts
    return changed, put


def _seen(records: Iterator[dict[str, Any]], put: dict[int, str]) -> Iterator[dict[str, Any]]:
    """The hunks in which the analyzers name a fault that was put there, its line in `injected`."""
    for record in records:
        row, seen = record["hunk"][2], []
        for at, (kind, _) in enumerate(record["lines"]):
            if kind == "add" and put.get(row) in record["labels"].get(str(at), ()):
                seen.append(at)
            row += kind != "del"
        if seen:
            yield record | {"injected": seen}


def _fixes(repository: Path, name: str, options: MineOptions) -> Iterator[dict[str, Any]]:
    shas = _fixing(repository)
    random.Random(options.seed).shuffle(shas)
    number = 0
    for start in range(0, len(shas[: options.searched]), _LOG_AT_ONCE):
        by_commit: dict[str, list[_Change]] = defaultdict(list)
        for change in _changes(repository, shas[start : start + _LOG_AT_ONCE]):
            by_commit[change.sha].append(change)
        for changes in by_commit.values():
            if len(changes) > _MAX_FIX_FILES:
                continue
            for change in changes:
                spoken = language(change.file.path)
                if is_test_path(change.file.path) or not any(each.speaks(spoken) for each in _languages()):
                    continue
                for hunk in change.file.hunks:
                    sizes = [
                        sum(line.kind == kind and bool(line.text.strip()) for line in hunk.lines)
                        for kind in ("add", "del")
                    ]
                    if sizes[0] != sizes[1] or not 0 < sizes[0] <= _MAX_FIX_LINES or number >= options.max_fixes:
                        continue
                    number += 1
                    lines: list[tuple[str, str]] = [(line.kind, _drop_secrets(line.text)) for line in hunk.lines]
                    yield _record(name, change, hunk, spoken, lines, {}, [])
        if number >= options.max_fixes:
            return


def _fixing(repository: Path) -> list[str]:
    """Commits whose subject says that they fix something."""
    subjects = _git(repository, "log", "--no-merges", "--format=%H %s", "-n", "60000", "HEAD").splitlines()
    return [line[:40] for line in subjects if _FIX.search(line[41:]) and not _NO_FIX.search(line[41:])]


def _languages() -> tuple[Concept, ...]:
    """Concepts of languages by name: a hunk in another one is no pair to learn from."""
    return tuple(concept for concept in load_concepts() if "*" not in concept.languages)


def _shas(repository: Path, options: MineOptions) -> tuple[list[str], list[str]]:
    """Commits without merges: the sample, and others in random order."""
    shas = _fixing(repository) if options.is_undone else _git(repository, "rev-list", "--no-merges", "HEAD").split()
    chosen = random.Random(options.seed).sample(shas, min(options.commits, len(shas)))
    others = sorted(set(shas) - set(chosen))
    random.Random(options.seed).shuffle(others)
    return chosen, others[: options.searched]


def _changes(
    repository: Path,
    shas: Sequence[str],
    wanted: Callable[[bytes], bool] = lambda _: True,
    turn: tuple[str, ...] = (),
) -> Iterator[_Change]:
    for start in range(0, len(shas), _LOG_AT_ONCE):
        parts = _COMMIT.split(_log(repository, shas[start : start + _LOG_AT_ONCE], *turn))[1:]  # a patch can hold a NUL
        for sha, time, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            if len(text) > 2_000_000:
                continue
            for block in re.split(rb"(?m)^(?=diff --git )", text)[1:]:
                index = re.search(rb"(?m)^index [0-9a-f]+\.\.([0-9a-f]+)", block)
                if index is None or not wanted(block):
                    continue
                try:
                    files = parse_diff(block)
                except DiffError:
                    continue
                if not files or not files[0].hunks or says_generated(files[0].hunks):
                    continue
                if skip_reason(files[0].path) is None:
                    yield _Change(sha.decode(), int(time), files[0], index[1].decode())


def _log(repository: Path, shas: Sequence[str], *turn: str) -> bytes:
    """Patches of these commits, in one run. A commit whose objects a partial clone lacks is left out."""
    done = subprocess.run(
        ["git", "-C", str(repository), "-c", "core.quotepath=false", "log", "--no-walk=unsorted", "--stdin", "-p",
         "-U3", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "-M", *turn,
         "--format=%x00%H %ct"],
        input="\n".join(shas).encode(), capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return done.stdout
    half = len(shas) // 2
    return _log(repository, shas[:half], *turn) + _log(repository, shas[half:], *turn) if half else b""


def _write(repository: Path, changes: Sequence[_Change], folder: Path) -> dict[str, str]:
    """Blobs to files named so that an analyzer knows their language; returns blob to name, too large ones left out."""
    wanted = {change.blob: Path(change.file.path).suffix or ".sh" for change in changes}
    done = subprocess.run(
        ["git", "-C", str(repository), "cat-file", "--batch"],
        input="\n".join(wanted).encode() + b"\n",
        capture_output=True,
        check=True,
    ).stdout
    names: dict[str, str] = {}
    at = 0
    for blob, suffix in wanted.items():
        end = done.index(b"\n", at)
        parts = done[at:end].split()
        at = end + 1
        if len(parts) != 3:
            continue
        size = int(parts[2])
        if size <= _MAX_FILE_BYTES:
            names[blob] = f"{blob}{suffix}"
            (folder / names[blob]).write_bytes(done[at : at + size])
        at += size + 1
    return names


def _ask(
    teachers: Sequence[Teacher], folder: Path, files: Sequence[str], concepts: Sequence[Concept], spoken: str
) -> tuple[dict[str, list[tuple[Diagnostic, str]]], set[str]]:
    """(file to its diagnostics with their concepts, files some teacher could not read)."""
    said: dict[str, list[tuple[Diagnostic, str]]] = defaultdict(list)
    unsure: set[str] = set()
    for teacher in teachers if files else ():  # some fail without one
        rules = [(rule, concept) for rule, concept in rules_of(teacher.name, concepts) if concept.speaks(spoken)]
        report = teacher.check(folder, files)
        unsure |= report.unparsable
        for one in report.diagnostics:
            if concept := concept_of(one.code, rules):
                said[one.file].append((one, concept.id))
    return said, unsure


def _label(
    name: str,
    change: _Change,
    said: Sequence[tuple[Diagnostic, str]],
    spoken: str,
    most: int,
) -> Iterator[dict[str, Any]]:
    """At most `most` hunks of the change with what was said of their lines."""
    by_row: dict[int, list[tuple[Diagnostic, str]]] = defaultdict(list)
    for one, concept in said:
        by_row[one.row].append((one, concept))
    for hunk in random.Random(change.blob).sample(change.file.hunks, min(most, len(change.file.hunks))):
        lines = hunk.lines[:_MAX_LINES]
        if not any(line.kind == "add" for line in lines):
            continue
        last = max((line.new for line in lines if line.new), default=0)
        labels: dict[str, list[str]] = {}
        unsure: list[int] = []
        for at, line in enumerate(lines):
            if line.kind != "add" or line.new is None:
                continue
            found = by_row.get(line.new, [])
            if seen := sorted({concept for one, concept in found if one.end_row <= last}):
                labels[str(at)] = seen
            elif found:
                unsure.append(at)  # the hunk does not show all of the finding
        yield _record(
            name, change, hunk, spoken, [(line.kind, _drop_secrets(line.text)) for line in lines], labels, unsure
        )


def _record(
    name: str,
    change: _Change,
    hunk: Hunk,
    spoken: str,
    lines: list[tuple[str, str]],
    labels: dict[str, list[str]],
    unsure: list[int],
) -> dict[str, Any]:
    return {
        "repository": name,
        "sha": change.sha,
        "time": change.time,
        "path": change.file.path,
        "language": spoken,
        "hunk": [hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines, _drop_secrets(hunk.section)],
        "lines": lines,
        "labels": labels,
        "unsure": unsure,
    }


def _drop_secrets(text: str) -> str:
    """Addresses and what looks like a secret leave the text before it is written anywhere."""
    return drop_secrets(text[:_MAX_LINE_CHARS])


def _licence(repository: Path) -> str:
    """SPDX id by the opening words of the licence file; `see repository` where they are of another kind or several."""
    names = _git(repository, "ls-tree", "--name-only", "HEAD").splitlines()
    known = (
        ("Apache License", "Apache-2.0"), ("GNU AFFERO", "AGPL-3.0"),
        ("GNU LESSER", "LGPL"), ("GNU GENERAL PUBLIC", "GPL"),
        ("Mozilla Public License", "MPL-2.0"), ("Permission is hereby granted, free of charge", "MIT"),
        ("Permission to use, copy, modify, and", "ISC"), ("Redistribution and use in source and binary forms", "BSD"),
    )  # fmt: skip
    for name in names:
        if re.match(r"(?i)(licen[cs]e|copying)", name):
            text = " ".join(_git(repository, "show", f"HEAD:{name}").split())[:_LICENCE_CHARS].lower()
            found = [licence for words, licence in known if words.lower() in text]
            if len(found) == 1:
                return found[0]
    return "see repository"


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace")
