"""Downloads from a server on loopback that breaks off, changes its mind or is busy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sentinelctl.download import TRIES, Downloads, Missing
from sentinelctl.errors import SentinelError

CONTENT = bytes(range(256)) * 1024


@dataclass
class Served:
    """`plan`: what each request meets in turn, the last from then on: bytes sent before it breaks off, or a status."""

    url: str = ""
    content: bytes = CONTENT
    etag: str = '"one"'
    plan: list[int | None] = field(default_factory=lambda: [None])
    asked: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def ranges(self) -> list[str | None]:
        return [each["range"] for each in self.asked]


def handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            met = served.plan.pop(0) if len(served.plan) > 1 else served.plan[0]
            served.asked.append({name: self.headers.get(name) for name in ("range", "if-range")})
            start, status = 0, 200
            if self.headers.get("range") and self.headers.get("if-range") == served.etag:
                start, status = int(self.headers["range"].removeprefix("bytes=").removesuffix("-")), 206
            if met is not None and met >= 400 and met < 600:
                self.send_response(met)
                self.send_header("Retry-After", "7")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if status == 206 and start >= len(served.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(served.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = served.content[start:]
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
            if served.etag:
                self.send_header("ETag", served.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if met is None else body[:met])
            self.close_connection = met is not None

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(served)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as served:
        yield served


class Time:
    """Sleeps by moving its own clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if seconds:
            self.slept.append(seconds)


def fetch(served: Served, target: Path, time: Time | None = None, pause_s: float = 0.0) -> list[tuple[int, int]]:
    time, told = time or Time(), list[tuple[int, int]]()
    with httpx2.Client(trust_env=False, verify=False) as client:  # certificates take longer to load than all the rest
        downloads = Downloads(client, pause_s=pause_s, clock=time.clock, sleep=time.sleep)
        downloads.fetch(f"{served.url}/a.json.gz", target, lambda there, total: told.append((there, total)))
    return told


def test_a_file_comes_whole_with_its_progress_and_leaves_no_part(served: Served, tmp_path: Path) -> None:
    told = fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_off_is_gone_on_from_where_it_broke(served: Served, tmp_path: Path) -> None:
    served.plan = [100_000, 50_000, None]
    fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert served.asked[1]["if-range"] == '"one"'


def test_another_run_goes_on_from_what_the_first_one_left(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    (tmp_path / "a.part.etag").write_text('"one"')
    fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.ranges == ["bytes=1000-"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"of the file before" * 1000)
    (tmp_path / "a.part.etag").write_text('"zero"')
    fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_nothing_vouches_for_a_part(served: Served, tmp_path: Path, etag: str) -> None:
    served.etag, served.plan = etag, [100_000, None]
    fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert served.ranges == [None, None]


def test_a_part_that_was_whole_already_is_taken_as_it_is(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.etag").write_text('"one"')
    fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT * 2)
    (tmp_path / "a.part.etag").write_text('"one"')
    fetch(served, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_after_the_time_it_names(served: Served, tmp_path: Path) -> None:
    time = Time()
    served.plan = [503, 429, None]
    fetch(served, tmp_path / "a", time)
    assert time.slept == [7, 7]


def test_requests_keep_their_distance(served: Served, tmp_path: Path) -> None:
    time = Time()
    served.plan = [100_000, 50_000, None]
    fetch(served, tmp_path / "a", time, pause_s=2.0)
    assert time.slept == [2.0, 2.0]


def test_a_server_that_never_gives_a_byte_is_given_up_and_the_part_stays(served: Served, tmp_path: Path) -> None:
    served.plan = [100_000, 0]
    with pytest.raises(SentinelError, match=f"{TRIES} tries in a row brought nothing, with 100,000 bytes there"):
        fetch(served, tmp_path / "a")
    assert len(served.asked) == 1 + TRIES
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:100_000]


def test_a_file_that_is_not_there_is_missing_at_once(served: Served, tmp_path: Path) -> None:
    served.plan = [404]
    with pytest.raises(Missing, match="is not there"):
        fetch(served, tmp_path / "a")
    assert len(served.asked) == 1


def test_an_answer_that_means_nothing_here_is_refused(served: Served, tmp_path: Path) -> None:
    served.plan = [403]
    with pytest.raises(SentinelError, match="answers 403"):
        fetch(served, tmp_path / "a")
