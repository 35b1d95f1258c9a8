import pytest

from sentinelctl.bench.stack import Layout, replicas_of
from sentinelctl.errors import UsageError


def test_replicas_are_named_as_scale_names_them() -> None:
    assert replicas_of(["extractor=4", "publisher=2"]) == {"extractor": 4, "publisher": 2}
    assert Layout(replicas=replicas_of(["extractor=4"])).document()["replicas"] == {
        "extractor": 4,
        "inference": 1,
        "publisher": 1,
    }


@pytest.mark.parametrize("word", ["webhook=2", "extractor", "extractor=0", "extractor=65", "extractor=-1", "x=1"])
def test_what_cannot_run_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="no SERVICE=N"):
        replicas_of([word])


def test_a_layout_says_whether_the_forge_s_limits_were_on_and_whose_commits_were_pushed() -> None:
    assert Layout().document()["forge_limits"] == "on"
    assert Layout(has_limits=False).document()["forge_limits"] == "off"
    assert str(Layout().document()["history"]).startswith("made")
