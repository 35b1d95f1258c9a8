import subprocess
from pathlib import Path

from sentinelctl.bench import STORED
from sentinelctl.bench.environment import environment, revision
from services.settings import load


def test_a_checkout_is_named_by_its_commit_and_marked_where_files_differ(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        own = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", "-C", str(tmp_path), *own, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    assert revision(tmp_path) == git("rev-parse", "HEAD")[:12]
    (tmp_path / STORED).mkdir(parents=True)
    (tmp_path / STORED / "webhook.json").write_text("{}")
    assert revision(tmp_path) == git("rev-parse", "HEAD")[:12], "a stored result is no change"
    (tmp_path / "a").write_text("2")
    assert revision(tmp_path) == git("rev-parse", "HEAD")[:12] + "+"


def test_an_installed_package_has_no_revision(tmp_path: Path) -> None:
    assert revision(tmp_path) == ""


def test_the_model_is_named_by_its_digest_and_a_missing_one_says_so(tmp_path: Path) -> None:
    found = environment(load(environ={}))
    assert len(found["model"]["digest"]) == 64
    assert found["cores"] > 0
    missing = environment(load(environ={"SENTINEL_INFERENCE_WEIGHTS": str(tmp_path)}))
    assert "no model at" in missing["model"]["fault"]
