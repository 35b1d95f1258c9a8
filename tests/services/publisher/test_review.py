import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from sentinel.v1.events_pb2 import Coverage, Event, PullRequestEvent, PushEvent, Repository, ReviewReady
from sentinel.v1.inference_pb2 import Finding, Model

from services.errors import Poison
from services.key import marker, review_key
from services.publisher.review import MAX_BODY_BYTES, Posting, compose
from services.settings import PublisherSettings

HEAD, BEFORE = "a" * 40, "b" * 40


def finding(path: str = "src/app.py", line: int = 12, **given: object) -> Finding:
    values: dict[str, object] = {
        "side": "RIGHT",
        "concept": "unclosed-resource",
        "title": "Resource opened without close",
        "text": "The file stays open when the block raises.\n\nOpen it in a `with` statement.",
        "category": "resource_handling",
        "severity": "bug",
        "confidence": 0.834,
        "is_shown": True,
    }
    return Finding(path=path, line=line, **{**values, **given})  # type: ignore[arg-type]


def none_check(path: str, line: int, **given: object) -> Finding:
    return finding(
        path,
        line,
        concept="none-comparison",
        title="Comparison to None with `==`",
        text="`==` may be overloaded. Compare with `is None`.",
        category="correctness",
        severity="suggestion",
        **given,
    )


def pull(*findings: Finding, **given: object) -> ReviewReady:
    values: dict[str, object] = {
        "commit_sha": HEAD,
        "findings": findings,
        "coverage": Coverage(hunks=45, hunks_reviewed=42, skipped={"too_large": 2, "binary": 1}),
        "model": Model(name="sentinel-small", version="0.1.0", digest="9f2c4e1b7a6d5e4f"),
    }
    event = Event(
        delivery_id="d-1",
        repository=Repository(id=7, full_name="octo/repo"),
        pull_request=PullRequestEvent(number=3, head_sha=HEAD),
    )
    return ReviewReady(event=event, **{**values, **given})  # type: ignore[arg-type]


def push(*findings: Finding, ref: str = "refs/heads/main") -> ReviewReady:
    ready = pull(*findings)
    ready.event.push.CopyFrom(PushEvent(ref=ref, before=BEFORE, after=HEAD))
    return ready


def composed(ready: ReviewReady, *, is_anchored: bool = True, **settings: object) -> Posting:
    return compose(
        ready,
        PublisherSettings(**settings),  # type: ignore[arg-type]
        review_key(ready),
        is_anchored=is_anchored,
    )


MIXED = (
    none_check("lib/z.py", 9, confidence=0.62, side="LEFT"),
    finding("lib/y.py", 9, title="Name shadows a builtin", text="`list` is hidden.", category="naming", severity="nit"),
    none_check("src/app.py", 40, confidence=0.71),
    finding(),
    none_check("lib/x.py", 3, confidence=0.66),
    finding("q.py", 1, title="Query built from input", text="", category="security", severity="critical"),
)


def test_a_pull_request_review_reads_like_this():
    posting = composed(pull(*MIXED))
    assert (
        posting.body
        == """\
42 of 45 hunks reviewed, 3 skipped (binary 1, too large 2).

6 findings: 3 on their lines, 3 below.

<details>
<summary>3 more findings</summary>

**Suggestion: Comparison to None with `==`** (correctness)

`==` may be overloaded. Compare with `is None`.

- `lib/x.py:3` · 66% confidence
- `lib/z.py:9` (removed line) · 62% confidence

**Nit: Name shadows a builtin** (naming)

`list` is hidden.

- `lib/y.py:9` · 83% confidence

</details>

<sub>sentinel-small 0.1.0 · 9f2c4e1b7a6d</sub>

<!-- sentinel:review v1 key=pr:7:3:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:0 -->"""
    )
    assert [(c.path, c.line, c.side) for c in posting.comments] == [
        ("q.py", 1, "RIGHT"),
        ("src/app.py", 12, "RIGHT"),
        ("src/app.py", 40, "RIGHT"),
    ]
    assert (
        posting.comments[1].body
        == """\
**Bug: Resource opened without close**

The file stays open when the block raises.

Open it in a `with` statement.

<sub>resource handling · 83% confidence</sub>"""
    )


def test_a_commit_comment_reads_like_this():
    posting = composed(push(finding(), none_check("x.py", 3)), is_anchored=False, max_comments=1)
    assert posting.comments == ()
    assert (
        posting.body == """\
42 of 45 hunks reviewed, 3 skipped (binary 1, too large 2).

2 findings.

**Bug: Resource opened without close**

`src/app.py:12` · resource handling · 83% confidence

The file stays open when the block raises.

Open it in a `with` statement.

<details>
<summary>1 more finding</summary>

**Suggestion: Comparison to None with `==`** (correctness)

`==` may be overloaded. Compare with `is None`.

- `x.py:3` · 83% confidence

</details>

<sub>sentinel-small 0.1.0 · 9f2c4e1b7a6d</sub>

<!-- sentinel:review v1 key=push:7:f921bd05e68b0374:"""
        f"{BEFORE}..{HEAD}:0 -->"
    )


@pytest.mark.parametrize(
    ("coverage", "first_lines"),
    [
        (Coverage(hunks=45, hunks_reviewed=45), "45 of 45 hunks reviewed.\n\nNo findings.\n"),
        (Coverage(hunks=1, hunks_reviewed=1), "1 of 1 hunk reviewed.\n\nNo findings.\n"),
        (Coverage(hunks=2, skipped={"binary": 2}), "0 of 2 hunks reviewed, 2 skipped (binary 2).\n\n<sub>"),
        (Coverage(), "0 of 0 hunks reviewed.\n\n<sub>"),
    ],
)
def test_the_first_line_states_coverage_and_nothing_unread_is_called_clean(coverage: Coverage, first_lines: str):
    assert composed(pull(coverage=coverage)).body.startswith(first_lines)


def test_only_shown_and_confident_findings_appear():
    posting = composed(pull(finding(is_shown=False), finding(confidence=0.59), finding("seen.py", confidence=0.6)))
    assert [c.path for c in posting.comments] == ["seen.py"]
    assert "1 finding, on its line." in posting.body
    assert posting.severities == ("bug",)


def test_the_most_severe_come_first_then_the_most_confident():
    findings = [
        finding("c.py", severity="bug", confidence=0.7),
        finding("b.py", severity="bug", confidence=0.9),
        finding("a.py", severity="critical", confidence=0.65),
    ]
    posting = composed(pull(*findings), max_comments=2)
    assert [c.path for c in posting.comments] == ["a.py", "b.py"]


@pytest.mark.parametrize("fault", [{"line": 0}, {"side": "MIDDLE"}, {"path": ""}, {"path": "caf\ufffd.py"}])
def test_a_finding_without_a_line_is_folded(fault: dict[str, object]):
    posting = composed(pull(finding(**fault)))
    assert posting.comments == ()
    assert "<summary>1 finding</summary>" in posting.body


def test_below_the_least_severity_and_over_the_cap_findings_are_folded():
    posting = composed(pull(finding(), finding(line=13), finding(line=14, severity="nit")), max_comments=1)
    assert len(posting.comments) == 1
    assert "3 findings: 1 on its line, 2 below." in posting.body


def test_refused_anchors_stand_in_the_body():
    posting = composed(pull(*MIXED), is_anchored=False)
    assert posting.comments == ()
    assert "GitHub did not take the comments on these lines, so they stand here." in posting.body
    assert "`src/app.py:12` · resource handling · 83% confidence" in posting.body


def test_a_body_stays_within_githubs_limit_and_says_what_it_leaves_out():
    many = [finding(f"src/file_{number}.py", severity="nit", title=f"Title {number}") for number in range(2000)]
    body = composed(pull(*many)).body
    assert MAX_BODY_BYTES - 1000 < len(body.encode()) <= MAX_BODY_BYTES
    left_out = re.search(r"^(\d+) more not shown", body, re.MULTILINE)
    assert left_out is not None
    assert int(left_out[1]) == 2000 - body.count("- `src/file_")
    assert body.endswith(marker(review_key(pull())))


def test_findings_that_the_record_had_no_room_for_are_counted_as_not_shown() -> None:
    posting = compose(pull(finding(), findings_cut=3), PublisherSettings(), "k", is_anchored=True)
    assert "\n\n3 more not shown: " in posting.body


@given(
    st.lists(
        st.builds(
            finding,
            path=st.text(max_size=300),
            line=st.integers(-1, 2**31 - 1),
            title=st.text(max_size=300),
            text=st.text(max_size=500),
            category=st.text(max_size=80),
            severity=st.sampled_from(["nit", "suggestion", "bug", "critical", "", "<!--"]),
            side=st.sampled_from(["LEFT", "RIGHT", ""]),
            confidence=st.floats(),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_whatever_findings_say_the_body_has_one_marker_our_tags_and_no_mention(findings: list[Finding], anchored: bool):
    ready = pull(*findings)
    posting = composed(ready, is_anchored=anchored)
    assert len(posting.body.encode()) <= MAX_BODY_BYTES
    assert posting.body.count("<!--") == 1
    assert posting.body.endswith(marker(review_key(ready)))
    for body in (posting.body, *(comment.body for comment in posting.comments)):
        tokens = [child for token in MarkdownIt().parse(body) for child in (token, *(token.children or ()))]
        html = "".join(token.content for token in tokens if token.type in ("html_block", "html_inline"))
        assert set(re.findall(r"<[^>]*>", html)) <= {
            "<sub>",
            "</sub>",
            "<details>",
            "</details>",
            "<summary>",
            "</summary>",
            marker(review_key(ready)),
        }
        outside_code = "".join(token.content for token in tokens if token.type in ("html_block", "html_inline", "text"))
        assert not re.search(r"@\w", outside_code)


def test_keys_name_the_unit_and_the_revision():
    assert review_key(pull(revision=2)) == f"pr:7:3:{HEAD}:2"
    assert review_key(push(ref="refs/heads/main")) == f"push:7:f921bd05e68b0374:{BEFORE}..{HEAD}:0"
    assert review_key(push(ref="refs/heads/other")) != review_key(push(ref="refs/heads/main"))


def test_no_ref_can_end_the_marker():
    assert marker(review_key(push(ref="refs/heads/x-->@team"))).count("-->") == 1


def test_a_record_that_names_no_unit_is_poison():
    no_kind = ReviewReady(event=Event(delivery_id="d"))
    no_sha = pull()
    no_sha.event.pull_request.head_sha = "main -->"
    for ready in (no_kind, no_sha):
        with pytest.raises(Poison) as refused:
            review_key(ready)
        assert refused.value.reason == "malformed_review"
