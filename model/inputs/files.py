"""What a path, or the head of a file, says: its language, whether it holds tests, and why nobody reviews it."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final, Literal

from model.inputs.diff import Hunk

SkipReason = Literal["vendored", "generated", "lock", "minified", "binary"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SUFFIXES: Final = {
    "python": "py pyi pyw",
    "javascript": "js jsx mjs cjs",
    "typescript": "ts tsx mts cts",
    "shell": "sh bash ksh bats",
    "c": "c h",
    "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp",
    "csharp": "cs",
    "go": "go",
    "java": "java",
    "kotlin": "kt kts",
    "lua": "lua",
    "perl": "pl pm t",
    "php": "php phtml",
    "ruby": "rb rake gemspec ru",
    "rust": "rs",
    "scala": "scala sc sbt",
    "swift": "swift",
    "css": "css scss sass less",
    "html": "html htm xhtml",
    "json": "json jsonc json5",
    "markdown": "md markdown",
    "sql": "sql",
    "toml": "toml",
    "xml": "xml xsd xsl svg",
    "yaml": "yaml yml",
}
_BY_SUFFIX: Final = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_BY_NAME: Final = {
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "makefile": "make",
    "gnumakefile": "make",
    "gemfile": "ruby",
    "rakefile": "ruby",
    "vagrantfile": "ruby",
    "sconstruct": "python",
    "pkgbuild": "shell",
    ".bashrc": "shell",
    ".bash_profile": "shell",
    ".profile": "shell",
}
_VENDORED: Final = _words(
    "vendor vendored third_party third-party thirdparty node_modules bower_components site-packages _vendor godeps "
    "carthage pods .yarn .venv"
)
_GENERATED_FOLDERS: Final = _words("__generated__ generated __snapshots__ dist .next .nuxt")
_GENERATED: Final = re.compile(
    r"(_pb2(_grpc)?\.pyi?|\.pb\.(go|cc|h)|_pb\.(js|d\.ts)|\.g\.(dart|cs|ts)|\.generated\.\w+|_generated\.\w+"
    r"|\.designer\.cs|\.snap|\.map|zz_generated\.[\w.]+|bindata\.go)$"
)
_HEAD_LINES: Final = 20
# After nothing but a comment's marks; Go's own words (https://go.dev/s/generatedcode) and Meta's are among them.
_SAYS_GENERATED: Final = re.compile(
    r"^[^\w\"'`@]*(@generated\b|code generated .*\bdo not edit\b"
    r"|(this|the)( \w+)? (file|code|module|class|header|script) (is|was|has been) "
    r"((auto(matically|[- ]?)|machine)[- ]?)?generated\b"
    r"|(auto(matically|[- ]?)|machine)[- ]?generated\b.*\b(by|from|do not (edit|modify|change))\b"
    r"|generated (by|from) .*\bdo not (edit|modify|change)\b|do not (edit|modify|change)\b.*\bgenerated\b)",
    re.IGNORECASE,
)
_LOCKS: Final = _words(
    "package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb poetry.lock uv.lock pdm.lock "
    "pipfile.lock gemfile.lock cargo.lock composer.lock go.sum go.work.sum flake.lock mix.lock pubspec.lock "
    "packages.lock.json podfile.lock gradle.lockfile deno.lock conan.lock"
)
_MINIFIED: Final = re.compile(r"[.-]min\.(js|mjs|css)$|\.bundle\.js$")
_BINARY: Final = _words(
    "png jpg jpeg gif bmp ico webp tiff psd pdf zip gz tgz bz2 xz zst 7z rar tar jar war whl egg exe dll so dylib a o "
    "obj lib class pyc pyo wasm woff woff2 ttf otf eot mp3 mp4 m4a wav ogg flac avi mov mkv webm bin dat db sqlite "
    "sqlite3 pkl npy npz onnx pt pth safetensors parquet docx xlsx pptx keystore p12"
)
_TEST_FOLDERS: Final = _words("test tests testing __tests__ spec specs e2e testdata")
_BESIDE_FOLDERS: Final = _words("example examples sample samples demo demos script scripts bench benchmark benchmarks")
_TEST_NAME: Final = re.compile(
    r"^(test_.*|conftest)\.py$|_tests?\.\w+$|\.(test|spec)\.\w+$|_spec\.rb$|\.bats$|\.t$|^.+(test|tests)\.(java|kt|cs)$"
)


def language(path: str) -> str:
    """The language of a path by its suffix or name, lower case; `other` where neither says."""
    name = PurePosixPath(path).name.lower()
    if found := _BY_NAME.get(name) or _BY_NAME.get(name.split(".", 1)[0] if name.startswith("dockerfile.") else ""):
        return found
    return _BY_SUFFIX.get(_suffix(name), "other")


def is_test_path(path: str) -> bool:
    """Whether the file holds tests, or lies in a folder that does."""
    *folders, name = PurePosixPath(path.lower()).parts or ("",)
    return not _TEST_FOLDERS.isdisjoint(folders) or _TEST_NAME.search(name) is not None


def is_beside(path: str) -> bool:
    """Whether the file is no part of what is shipped: a test, an example, a script of the project's own."""
    *folders, _ = PurePosixPath(path.lower()).parts or ("",)
    return is_test_path(path) or not _BESIDE_FOLDERS.isdisjoint(folders)


def skip_reason(path: str) -> SkipReason | None:
    """Why nobody reviews this path, or None."""
    *folders, name = PurePosixPath(path.lower()).parts or ("",)
    if name in _LOCKS:
        return "lock"
    if not _VENDORED.isdisjoint(folders):
        return "vendored"
    if _MINIFIED.search(name):
        return "minified"
    if not _GENERATED_FOLDERS.isdisjoint(folders) or _GENERATED.search(name):
        return "generated"
    return "binary" if _suffix(name) in _BINARY else None


def says_generated(hunks: Iterable[Hunk]) -> bool:
    """Whether one of the file's first lines says so; hunks that do not hold them cannot."""
    return any(
        line.new is not None and line.new <= _HEAD_LINES and _SAYS_GENERATED.search(line.text[:200])
        for hunk in hunks
        if hunk.new_start <= _HEAD_LINES
        for line in hunk.lines
    )


def _suffix(name: str) -> str:
    return name.rpartition(".")[2] if "." in name else ""
