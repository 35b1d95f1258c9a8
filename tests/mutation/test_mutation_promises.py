"""A test of the tests: each promise is broken on purpose in a copy of the tree, and the suite, unchanged, must see it.

A mutation replaces text that stands exactly once in one shipped file; where it does not, that is an error here, so no
mutation ends up changing nothing. It names the tests that must fail, and they must fail in what they assert: a copy
that cannot be imported proves nothing. What is not mutated passes in the copy.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("services", "sentinelctl", "model", "proto", "tests", "pyproject.toml")
LEFT_OUT = ("__pycache__", "weights", "node_modules", "octokit", "mutation")

PUBLISHER = "tests/services/publisher/test_handler.py"
RECEIVER = "tests/services/webhook/test_app.py"
RUNNER = "tests/services/stream/test_runner.py"
STREAM = "tests/contracts/test_stream.py"
CLAIMS = "tests/contracts/test_claims.py"
STEADY = {
    PUBLISHER: "test_a_push_becomes_one_commit_comment",
    RECEIVER: "test_a_ping_is_answered",
    RUNNER: "test_every_record_is_handled_once_and_committed",
    STREAM: "test_a_group_goes_on_where_it_committed",
    CLAIMS: "test_a_confirmed_key_is_done_until_its_time_is_over",
}
"""Of each suite, a test that no mutation here concerns: what fails with it is the copy, not the promise."""
ON_SQLITE = (STREAM, CLAIMS)


@dataclass(frozen=True)
class Mutation:
    path: str
    text: str
    instead: str
    suite: str
    sees: tuple[str, ...]
    """Names of its tests, without parameters, that must fail."""


MUTATIONS = {
    "commit_before_the_effect": Mutation(
        "services/stream/runner.py",
        """\
                await self._finish(part, waiting[0])
                offset = waiting.popleft().offset
                was_full = len(part.fetched) >= self._limits.max_in_flight
                part.finish(offset)
                self._progress.set()
""",
        """\
                was_full = len(part.fetched) >= self._limits.max_in_flight
                part.finish(waiting[0].offset)
                self._progress.set()
                await self._finish(part, waiting[0])
                waiting.popleft()
""",
        RUNNER,
        (
            "test_an_undeclared_error_stops_the_replica_and_commits_nothing_of_its_record",
            "test_a_crash_between_effect_and_commit_repeats_the_effect_and_loses_none",
        ),
    ),
    "a_later_record_commits_over_an_earlier_one": Mutation(
        "services/stream/runner.py",
        """\
        self.finished.add(offset)
        while self.fetched and self.fetched[0] in self.finished:
            self.finished.remove(self.fetched[0])
            self.next_offset = self.fetched.popleft() + 1
""",
        """\
        self.fetched.remove(offset)
        self.next_offset = max(offset + 1, self.next_offset or 0)
""",
        RUNNER,
        ("test_a_later_record_that_finishes_first_is_not_committed_over_an_earlier_one",),
    ),
    "the_outside_failing_uses_up_retries": Mutation(
        "services/stream/runner.py",
        "            except Deferred as exc:\n                if isinstance(exc, BusUnavailable):\n",
        "            except Deferred as exc:\n"
        "                if not isinstance(exc, BusUnavailable):\n"
        "                    raise Retryable(str(exc)) from exc\n"
        "                if isinstance(exc, BusUnavailable):\n",
        RUNNER,
        ("test_a_deferred_record_pauses_its_partition_alone_and_uses_no_retries",),
    ),
    "a_halt_that_comes_late": Mutation(
        "services/stream/runner.py",
        "if self._is_halted or self._failed_in_row >= self._limits.halt_after:",
        "if self._is_halted or self._failed_in_row > self._limits.halt_after:",
        RUNNER,
        ("test_a_consumer_halts_when_everything_fails",),
    ),
    "a_dead_letter_without_the_original_bytes": Mutation(
        "services/codec.py",
        "        value=record.value,\n        headers=[Header(",
        '        value=b"",\n        headers=[Header(',
        RUNNER,
        ("test_a_record_that_fails_is_retried_with_growing_pauses_then_set_aside",),
    ),
    "accepted_before_the_append": Mutation(
        "services/webhook/intake.py",
        "        return await waiting.done\n",
        "        return Appended(record.topic, 0, 0)\n",
        RECEIVER,
        ("test_an_accepted_delivery_is_in_the_log_before_it_is_answered",),
    ),
    "remembered_before_the_append": Mutation(
        "services/webhook/writer.py",
        "        appended = await append\n        if new:\n",
        "        await self._remember(new, {one.key: Appended('', 0, 0) for one in new})\n"
        "        appended = await append\n        if new:\n",
        RECEIVER,
        ("test_a_delivery_is_remembered_only_once_the_log_has_it",),
    ),
    "confirm_before_the_post": Mutation(
        "services/publisher/handler.py",
        "                posting_at = self._clock()\n                is_unused = False\n",
        "                posting_at = self._clock()\n                is_unused = False\n"
        "                await self._confirm(unit, claim)\n",
        PUBLISHER,
        ("test_a_publisher_killed_around_any_call_leaves_one_review",),
    ),
    "no_claim": Mutation(
        "services/publisher/handler.py",
        "claim = await self._claims.claim(unit.key, lease_s=self._lease_s)",
        'claim = Claim("granted")',
        PUBLISHER,
        ("test_two_publishers_of_one_record_post_once", "test_another_delivery_of_the_same_head_is_a_duplicate"),
    ),
    "a_takeover_looks_for_no_marker": Mutation(
        "services/publisher/handler.py",
        "        if claim.is_takeover or unit.received_at < ",
        "        if unit.received_at < ",
        PUBLISHER,
        (
            "test_a_takeover_finds_the_marker_even_in_a_list_that_trails",
            "test_a_publisher_killed_around_any_call_leaves_one_review",
        ),
    ),
    "a_posted_review_is_not_recognised": Mutation(
        "services/publisher/handler.py",
        "        return any(is_marked(each.body, unit.key) for each in posted)\n",
        "        return False\n",
        PUBLISHER,
        ("test_an_unanswered_post_that_got_through_is_found_and_confirmed",),
    ),
    "posted_whatever_the_head_is": Mutation(
        "services/publisher/handler.py",
        "        if pull.head_sha != unit.commit_sha:\n",
        "        if pull.head_sha == unit.commit_sha + 'x':\n",
        PUBLISHER,
        ("test_an_overtaken_head_or_a_closed_pull_request_is_superseded_and_its_claim_given_back",),
    ),
    "a_lost_partition_is_committed": Mutation(
        "services/stream/sqlite.py",
        'WHERE "group" = ? AND topic = ? AND partition = ? AND member = ? AND epoch = ?)',
        'WHERE "group" = ? AND topic = ? AND partition = ? OR member = ? OR epoch = ?)',
        STREAM,
        ("test_a_member_back_from_a_long_sleep_commits_nothing_it_lost",),
    ),
    "a_late_holder_confirms_over_a_takeover": Mutation(
        "services/claims/sqlite.py",
        '"UPDATE claims SET is_done = 1, ends_at = ?, result = ? WHERE key = ? AND token = ?",',
        '"UPDATE claims SET is_done = 1, ends_at = ?, result = ? WHERE key = ? AND token >= ?",',
        CLAIMS,
        ("test_a_late_holder_may_confirm_only_while_nobody_took_over",),
    ),
}


@dataclass(frozen=True)
class Suite:
    """What a run of a suite reported; `failed` has the name of a test, without parameters, and what was raised."""

    passed: frozenset[str]
    failed: dict[str, set[str]]
    said: str


def copied(to: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy2(source, to / name)
    return to


def run(tree: Path, suite: str, names: Collection[str]) -> Suite:
    """Nothing but the tree's own code: it comes before any installed one."""
    report = tree / "report.xml"
    select = f"({' or '.join(names)}){' and sqlite' if suite in ON_SQLITE else ''}"
    options = (f"--junitxml={report}", "-p", "no:cacheprovider", "-p", "no:xdist")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", suite, "-k", select, *options],
        cwd=tree, capture_output=True, text=True, timeout=170, check=False,
        env={**os.environ, "PYTHONPATH": f"{tree}:{tree / 'proto'}", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode in (0, 1), f"pytest could not run {suite}: {done.returncode}\n{done.stdout}{done.stderr}"
    passed: set[str] = set()
    failed: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["name"].partition("[")[0]
        assert case.find("error") is None, f"{name} could not run\n{done.stdout}"
        if (failure := case.find("failure")) is not None:
            failed.setdefault(name, set()).add(failure.attrib["message"])
        elif case.find("skipped") is None:
            passed.add(name)
    return Suite(frozenset(passed - failed.keys()), failed, done.stdout)


def mutate(tree: Path, mutation: Mutation) -> None:
    path = tree / mutation.path
    source = path.read_text(encoding="utf-8")
    found = source.count(mutation.text)
    assert found == 1, (
        f"the mutation's text stands {found} times in {mutation.path}; the promise is kept elsewhere by now: "
        f"break it there\n{mutation.text}"
    )
    path.write_text(source.replace(mutation.text, mutation.instead), encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copied(tmp_path)


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_seen_by_the_suite(tree: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    mutate(tree, mutation)
    ran = run(tree, mutation.suite, {*mutation.sees, STEADY[mutation.suite]})
    assert ran.failed.keys() == set(mutation.sees), ran.said
    assert ran.passed == {STEADY[mutation.suite]}, ran.said
    for text in set().union(*ran.failed.values()):
        assert not text.startswith(("ImportError", "NameError", "SyntaxError", "AttributeError", "TypeError")), text


@pytest.mark.parametrize("suite", STEADY)
def test_without_a_mutation_the_same_tests_pass_in_the_copy(tree: Path, suite: str) -> None:
    names = {STEADY[suite], *(name for one in MUTATIONS.values() if one.suite == suite for name in one.sees)}
    ran = run(tree, suite, names)
    assert ran.failed == {}, ran.said
    assert ran.passed == names, ran.said


def test_a_mutation_that_no_longer_applies_is_an_error(tree: Path) -> None:
    gone = Mutation("services/codec.py", "text that stands nowhere", "other text", RUNNER, ())
    with pytest.raises(AssertionError, match=r"stands 0 times in services/codec\.py"):
        mutate(tree, gone)
