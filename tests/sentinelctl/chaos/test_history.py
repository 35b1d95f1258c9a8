from pathlib import Path

from sentinelctl.chaos.history import make_history
from sentinelctl.fakehub.git import Git


def test_the_same_numbers_make_the_same_commits(tmp_path: Path) -> None:
    one, other = (make_history(tmp_path / name, 4) for name in ("one", "other"))
    assert one.shas == other.shas
    assert len(set(one.shas)) == 4
    assert one.wide == ""


def test_each_commit_changes_one_line_of_one_file(tmp_path: Path) -> None:
    made = make_history(tmp_path / "served", 3)
    (file,) = Git(made.path).diff(made.shas[1], made.shas[2])
    assert (file.path, file.additions, file.deletions) == ("app.py", 1, 1)


def test_a_wide_commit_stands_beside_the_branch_and_touches_as_many_files_as_asked(tmp_path: Path) -> None:
    made = make_history(tmp_path / "served", 2, wide_files=40)
    git = Git(made.path)
    assert git.tip == made.shas[-1]
    assert len(git.diff(made.shas[-1], made.wide)) == 40
