import pytest

from model.inputs.files import is_test_path, language, skip_reason


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.py", "python"),
        ("types.pyi", "python"),
        ("A.JSX", "javascript"),
        ("x.mts", "typescript"),
        ("run.sh", "shell"),
        (".bashrc", "shell"),
        ("x.h", "c"),
        ("x.hpp", "cpp"),
        ("Dockerfile", "dockerfile"),
        ("ci/Dockerfile.dev", "dockerfile"),
        ("Makefile", "make"),
        ("noext", "other"),
        ("py", "other"),
        ("", "other"),
    ],
)
def test_the_suffix_or_name_says_the_language(path: str, expected: str) -> None:
    assert language(path) == expected


@pytest.mark.parametrize(
    "path", ["tests/x.py", "test_x.py", "a/x_test.go", "src/x.spec.ts", "ui/__tests__/x.js", "T/FooTest.java"]
)
def test_a_file_of_tests_is_known_by_its_path(path: str) -> None:
    assert is_test_path(path)


@pytest.mark.parametrize("path", ["contest.py", "src/latest.ts", "attest/x.py", "latest_x.go", ""])
def test_a_name_that_only_resembles_a_test_is_none(path: str) -> None:
    assert not is_test_path(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("vendor/x.go", "vendored"),
        ("a/node_modules/b/c.js", "vendored"),
        ("package-lock.json", "lock"),
        ("vendor/go.sum", "lock"),
        ("sub/Cargo.lock", "lock"),
        ("api/x_pb2.py", "generated"),
        ("api/x_pb2_grpc.py", "generated"),
        ("x.pb.go", "generated"),
        ("dist/x.js", "generated"),
        ("lib/jquery.min.js", "minified"),
        ("logo.PNG", "binary"),
        ("src/x.py", None),
        ("vendor.py", None),
        ("src/admin.js", None),
        ("", None),
    ],
)
def test_what_nobody_reviews_is_skipped_with_its_reason(path: str, expected: str | None) -> None:
    assert skip_reason(path) == expected
