from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.extractor.hunks import MAX_FILE_BYTES, hunk_bytes, select
from services.github.types import ChangedFile
from services.settings import ExtractorSettings

SETTINGS = ExtractorSettings()
PATCH = "@@ -1 +1 @@\n-a\n+b\n@@ -9,2 +9 @@ def f():\n c\n-d"


def changed(path: str = "a.py", patch: str | None = PATCH, **more: Any) -> ChangedFile:
    return ChangedFile.model_validate(
        {"filename": path, "patch": patch, "status": "modified", "changes": 3 if patch else 0, **more}
    )


def test_every_hunk_of_a_file_is_read_with_its_numbers() -> None:
    selection = select([changed()], SETTINGS)
    assert [(hunk.path, hunk.new_start, hunk.section) for hunk in selection.hunks] == [
        ("a.py", 1, ""),
        ("a.py", 9, "def f():"),
    ]
    assert not selection.skipped


@pytest.mark.parametrize(
    ("file", "skipped"),
    [
        (changed("node_modules/x.js"), {"vendored": 2}),
        (changed("poetry.lock"), {"lock": 2}),
        (changed("a_pb2.py"), {"generated": 2}),
        (changed("x.min.js"), {"minified": 2}),
        (changed("docs/deep/x.md"), {"ignored": 2}),
        (changed("logo.png", None, status="added"), {"binary": 1}),
        (changed("data", None, status="added", sha="1" * 40), {"binary": 1}),
        (changed("huge.py", None, changes=30_000), {"too_large": 1}),
        (changed("odd.py", "@@ -1 +1 @@\n-a\n+b\n+c"), {"unparsable": 1}),
        (changed("odd.py", "no hunk"), {"unparsable": 1}),
        (changed("new/name.py", None, status="renamed"), {}),
        (changed("tool.sh", None, status="changed"), {}),
        (changed("__init__.py", None, status="added", sha="e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"), {}),
    ],
)
def test_what_is_not_read_is_counted_by_reason(file: ChangedFile, skipped: dict[str, int]) -> None:
    selection = select([file], ExtractorSettings(ignore=("docs/*",)))
    assert selection.hunks == ()
    assert selection.skipped == skipped


def test_a_malformed_file_does_not_touch_its_neighbours() -> None:
    selection = select([changed("x.py", "@@ oops"), changed()], SETTINGS)
    assert len(selection.hunks) == 2
    assert selection.skipped == {"unparsable": 1}


def test_hunks_that_only_delete_are_read() -> None:
    assert len(select([changed(patch="@@ -1,2 +0,0 @@\n-a\n-b", status="removed")], SETTINGS).hunks) == 1


@pytest.mark.parametrize("settings", [ExtractorSettings(max_hunk_lines=10), ExtractorSettings(max_hunk_bytes=1024)])
def test_a_hunk_beyond_its_lines_or_bytes_is_too_large(settings: ExtractorSettings) -> None:
    lines = "\n".join("+" + "x" * 100 for _ in range(11))
    selection = select([changed(patch=f"@@ -0,0 +1,11 @@\n{lines}\n@@ -5 +16 @@\n-a\n+b")], settings)
    assert [hunk.new_start for hunk in selection.hunks] == [16]
    assert selection.skipped == {"too_large": 1}


def test_hunks_beyond_the_budget_are_counted() -> None:
    selection = select([changed(), changed("b.py")], ExtractorSettings(max_hunks=3))
    assert [hunk.path for hunk in selection.hunks] == ["a.py", "a.py", "b.py"]
    assert selection.skipped == {"over_budget": 1}


def test_the_hunks_of_one_file_fit_one_call() -> None:
    big = "\n".join(f"@@ -0,0 +{at * 9} @@\n+{'x' * 200_000}" for at in range(1, 20))
    selection = select([changed(patch=big)], SETTINGS)
    assert sum(map(hunk_bytes, selection.hunks)) <= MAX_FILE_BYTES
    assert len(selection.hunks) + selection.skipped["too_large"] == 19
    assert selection.hunks


_patches = st.one_of(
    st.none(),
    st.text(max_size=80),
    st.lists(st.sampled_from(["@@ -1 +1 @@\n-a\n+b", "@@ -1,0 +2 @@ s\n+b\r", "@@ -3 +0,0 @@\n-x\n"]), max_size=4).map(
        "\n".join
    ),
)


@given(
    files=st.lists(
        st.builds(
            changed,
            st.sampled_from(["a.py", "b/vendor/c.go", "x.lock", "é\t.md"]) | st.text(min_size=1, max_size=9),
            _patches,
        ),
        max_size=5,
    ),
    max_hunks=st.integers(1, 4),
)
def test_no_patch_crashes_and_every_file_with_content_is_accounted_for(
    files: list[ChangedFile], max_hunks: int
) -> None:
    selection = select(files, ExtractorSettings(max_hunks=max_hunks))
    assert len(selection.hunks) <= max_hunks
    assert all(count > 0 for count in selection.skipped.values())
    with_hunks = sum(1 for file in files if file.patch is None or file.patch.strip())
    assert len(selection.hunks) + selection.skipped.total() >= with_hunks
