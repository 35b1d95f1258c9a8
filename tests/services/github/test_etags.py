import tracemalloc

from services.github.etags import EtagCache, Page


def test_the_pages_asked_for_last_stay_within_the_bytes_given() -> None:
    cache = EtagCache(max_bytes=850)
    cache.put((0, "a"), "1", Page(b"aaaa"))
    cache.put((0, "b"), "1", Page(b"bbbb"))
    assert cache.get((0, "a")) is not None
    cache.put((0, "c"), "1", Page(b"cccc"))
    assert [cache.get((0, name)) is not None for name in "abc"] == [True, False, True]


def test_a_page_put_again_counts_once() -> None:
    cache = EtagCache(max_bytes=450)
    for tag in "123":
        cache.put((0, "a"), tag, Page(b"aaaaaa"))
    assert cache.get((0, "a")) == ("3", Page(b"aaaaaa"))


def test_a_page_larger_than_the_cache_is_not_kept() -> None:
    cache = EtagCache(max_bytes=3)
    cache.put((0, "a"), "1", Page(b"aaaa"))
    assert cache.get((0, "a")) is None


def test_one_account_never_sees_what_another_read() -> None:
    cache = EtagCache()
    cache.put((1, "a"), "1", Page(b"private"))
    assert cache.get((2, "a")) is None


def test_answers_that_are_next_to_nothing_take_no_more_memory_than_the_rest() -> None:
    cache = EtagCache(max_bytes=2_000_000)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(10_000):
        url = f"https://api.github.com/repos/o/n/commits/{number:040x}/comments?per_page=100"
        cache.put((1, url), f'W/"{number:064x}"', Page(b"[]"))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2_500_000
