import csv
import json
import pkgutil
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import model.teachers
from model import labels
from model.dataset import split_of
from model.inputs.diff import parse_patch
from model.inputs.tokenizer import LANGUAGES
from model.labels import CatalogError, Concept, concept_of, learned, load_concepts, rules_of
from model.rules import rule_findings
from model.teachers import find

EVAL = Path(labels.__file__).parent / "eval"
TEACHES = {
    "ruff": {"python"},
    "eslint": {"javascript", "typescript"},
    "shellcheck": {"shell"},
    "cppcheck": {"c", "cpp"},
    "flawfinder": {"c", "cpp"},
    "cpplint": {"c", "cpp"},
    "checkstyle": {"java"},
    "astgrep": {"go", "java", "python", "javascript", "typescript", "shell", "c", "cpp"},
    "rule": {"*"},
}


def test_every_concept_says_in_two_or_three_sentences_what_was_seen_and_what_to_do() -> None:
    def is_well_put(concept: Concept) -> bool:
        sentences = len(re.findall(r"[.!?](?=\s|$)", concept.text))
        is_plain = concept.text == " ".join(concept.text.split()) and concept.text.endswith(".")
        return sentences in (2, 3) and is_plain and not concept.title.endswith(".")

    assert [concept.id for concept in load_concepts() if not is_well_put(concept)] == []


def test_every_concept_is_taught_in_each_of_its_languages_and_by_each_of_its_teachers() -> None:
    def is_taught(concept: Concept) -> bool:
        spoken, by = set(concept.languages), [TEACHES[teacher] for teacher, _ in concept.teachers]
        return bool(spoken) and spoken <= set().union(*by) and all(spoken & taught for taught in by)

    assert set().union(*TEACHES.values()) == {*LANGUAGES, "*"} - {"other"}
    assert [concept.id for concept in load_concepts() if not is_taught(concept)] == []


def test_every_teacher_named_is_a_module_or_the_rules() -> None:
    modules = {module.name for module in pkgutil.iter_modules(model.teachers.__path__)}
    assert {teacher for concept in load_concepts() for teacher, _ in concept.teachers} == {*modules, "rule"}
    assert set(TEACHES) == {*modules, "rule"}


# Of each concept with an `unless`: a line that is custom, and one that is not.
EXCUSED = {
    "unquoted_array": ('COMPREPLY=( $(compgen -W "$words" -- "$cur") )', "files=( $(ls) )"),
    "eval_exec": ('eval "$(ssh-agent -s)"', "eval(text)"),
    "swallowed_exception": ("except ImportError:", "except Exception:"),
    "cd_without_check": ("cd ..", 'cd "$target"'),
    "weak_hash": ("hashlib.md5(body, usedforsecurity=False)", "cached = hashlib.md5(password)"),
    "permissive_chmod": ("os.chmod(path, 0o755)", "os.chmod(path, 0o777)"),
    "hardcoded_password": ("password = 'changeme'", "password = 'tr0ub4dor'  # for example"),
    "naive_datetime": ("now = datetime.now(timezone.utc)", "now = datetime.now()"),
    "open_without_context": ("open(path).close()", "text = open(path).read()  # with its end"),
    "missing_radix": ("return parseInt(found.port.slice(1), 10)", "return parseInt(text)"),
    "shell_injection": ('os.system("clear")', 'os.system("rm " + path)'),
    "unbounded_copy": ("int sscanf(char *text, const char *format, ...);", "strcpy(to, from);"),
    "file_race": ("#define access _access", "if (access(path, W_OK))"),
    "assignment_in_condition": ("while ((match = word.exec(text))) {", "if (match = word.exec(text)) {"),
    "useless_statement": ("done && done(error)", "value == 2"),
    "bind_all_interfaces": ('if host == "0.0.0.0":', 'host = "0.0.0.0"'),
    "invalid_escape": (r'pattern = r"\d+"', r'pattern = "\d+"'),
    "format_string": ('fprintf(out, "%s", text);', "fprintf(out, text);"),
    "thread_unsafe_call": ("log(strerror(errno));", "when = localtime(&now);"),
    "trap_expands_early": ('trap "kill $server_pid" EXIT', 'trap "finish $state" EXIT'),
    "printf_variable_format": ('printf "${red}failed\\n"', 'printf "$message\\n"'),
    "request_no_timeout": ("reply = requests.get(url, timeout=5)", "reply = requests.get(url)"),
    "subprocess_no_check": ("done = subprocess.run(command)", "subprocess.run(command)"),
    "env_default_type": ('port = int(os.getenv("PORT", 80))', 'port = os.getenv("PORT", 80)'),
    "identical_operands": ("CHECK(1 == 1);", "if (left == left) {"),
    "template_unescaped": ("box.innerHTML = '<b>none</b>';", "box.innerHTML = found;"),
    "insecure_tempfile": ("int fd = mkstemp(name);", "char *name = mktemp(pattern);"),
    "constant_test": ("while [[ $left > 0 ]]; do", "if [ $left > 0 ]; then"),
    "raise_without_from": ("raise Missing(name) from found", "raise Missing(name)"),
    "missing_docstring": ("func (of *store) open(name string) error {", "func (of *Store) Open(name string) error {"),
    "missing_annotation": ("def open(self, name: str) -> File:", "def open(self, name) -> File:"),
    "implicit_optional": ("timeout: TimeoutTypes = None,", "timeout: float = None,"),
    "read_without_r": ("read -n 1 -r answer", "read answer"),
    "masked_exit_status": ('local top; top="$(pwd)"', 'local top="$(pwd)"'),
    "boolean_positional": ("found.get(name, True)", "found.set(name, True)"),
    "boolean_trap": ("def open(name, *, again=False):", "def open(name, again=False):"),
    "fixed_buffer": ('char name[] = "a";', "char name[64];"),
    "unchecked_copy_length": ("memcpy(&to, from, sizeof(to));", "memcpy(to, from, length);"),
    "hardcoded_tmp": ("gpg --import </tmp/key", "gpg --export > /tmp/key"),
    "indirect_exit_status": ("if [ $? -ne 2 ]; then", "if [ $? -ne 0 ]; then"),
    "old_typing_syntax": ("from typing import Any, Protocol", "from typing import List"),
    "loose_equality": ("if (found == null) {", "if (found == 1) {"),
    "ignored_error": ('name, _, _ := strings.Cut(text, ":")', "reply, _ := http.Get(address)"),
}


def test_a_line_in_which_the_custom_is_found_excuses_a_concept_and_another_does_not() -> None:
    found = {
        concept.id: tuple(concept.excuses(line) for line in EXCUSED.get(concept.id, ()))
        for concept in load_concepts()
        if concept.unless
    }
    assert found == dict.fromkeys(EXCUSED, (True, False))
    assert all(concept.excuses("}") for concept in load_concepts() if concept.only)
    assert not any(
        concept.excuses("COMPREPLY example") for concept in load_concepts() if not concept.unless and not concept.only
    )


@pytest.mark.parametrize(
    "piece",
    ["a: b, ", "self,", "a=", "a.", "a(b)[c]", "'", '"', "`$", " ", "(", "*, ", "-r ", "assert ", "x = _ = ", "\\"],
)
@pytest.mark.parametrize(
    "start", ["", "def f(", "memcpy(&", "read ", "local ", "func ", "from typing import ", "trap "]
)
def test_no_line_keeps_a_pattern_busy(start: str, piece: str) -> None:
    """One that backtracks without end would never come back."""
    for concept in load_concepts():
        concept.excuses(start + piece * 400)


@pytest.mark.parametrize(
    "line",
    ['eval value=\\"\\$name_$i\\"', 'eval "value=\\${$name}"', 'eval "$1=\\$2"', "eval \\$name", 'eval x="\\$$1"'],
)
def test_a_shell_may_look_a_name_up_by_eval(line: str) -> None:
    by_id = {concept.id: concept for concept in load_concepts()}
    assert by_id["eval_exec"].excuses(line)
    assert not by_id["eval_exec"].excuses('eval "$command \\$1"')


def test_no_two_concepts_of_a_language_share_a_rule() -> None:
    """concept_of takes the first, so the second would never be taught."""
    owners: dict[tuple[str, str, str], list[str]] = {}
    for concept in load_concepts():
        for teacher, rule in concept.teachers:
            for spoken in concept.languages:
                owners.setdefault((teacher, rule, spoken), []).append(concept.id)
    assert {key: ids for key, ids in owners.items() if len(ids) > 1} == {}


def test_every_rule_of_ruff_that_the_catalog_names_is_one_ruff_has() -> None:
    every = subprocess.run(
        [find("ruff", ""), "rule", "--all", "--output-format", "json"], capture_output=True, check=True
    )
    known = {rule["code"] for rule in json.loads(every.stdout)}
    assert {rule for rule, _ in rules_of("ruff", load_concepts())} - known == set()


def test_rules_decide_exactly_the_concepts_that_the_network_has_no_column_for() -> None:
    (hunk,) = parse_patch(f"@@ -0,0 +1 @@\n+# TODO {'x' * 200} ", "x.py")
    decided = {concept for _, concept in rule_findings(hunk)}
    concepts = load_concepts()
    assert decided == {concept.id for concept in concepts if concept.is_rule}
    assert {concept.id for concept in learned(concepts)} == {concept.id for concept in concepts} - decided
    assert [concept for concept in concepts if not concept.is_rule] == list(learned(concepts))


def test_the_catalog_is_the_one_that_was_frozen() -> None:
    """A change of id, category or severity parts the figures of before and after: model/eval/README.md wants a date."""
    with (EVAL / "concepts.tsv").open(encoding="utf-8", newline="") as file:
        frozen = list(csv.reader(file, delimiter="\t"))
    assert frozen == [
        ["concept", "category", "severity"],
        *([concept.id, concept.category, concept.severity] for concept in load_concepts()),
    ]


def test_every_frozen_repository_is_a_test_repository_with_a_head() -> None:
    with (EVAL / "repositories.tsv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == ["repository", "head"]
    assert {split_of(name) for name, _ in rows} == {"test"}
    assert all(re.fullmatch(r"[0-9a-f]{40}", head) for _, head in rows)
    assert [name for name, _ in rows] == sorted({name for name, _ in rows})


def concept(name: str, *rules: tuple[str, str], languages: tuple[str, ...] = ("c",)) -> Concept:
    return Concept(name, name, "logic", "bug", languages, "", rules)


def test_a_code_stands_for_the_first_concept_whose_pattern_matches_case_and_all() -> None:
    concepts = [concept("copy", ("flawfinder", "*/strcpy"), ("cppcheck", "copy")), concept("any", ("flawfinder", "*"))]
    rules = rules_of("flawfinder", concepts)
    assert [rule for rule, _ in rules] == ["*/strcpy", "*"]
    for code, expected in (("buffer4/strcpy", "copy"), ("buffer4/STRCPY", "any")):
        found = concept_of(code, rules)
        assert found is not None
        assert found.id == expected
    assert concept_of("buffer4/strcat", rules[:1]) is None


def test_a_concept_of_every_language_speaks_each() -> None:
    assert concept("all", languages=("*",)).speaks("go")
    assert concept("one", languages=("c",)).speaks("c")
    assert not concept("one", languages=("c",)).speaks("cpp")


@pytest.mark.parametrize(
    ("changes", "seen"),
    [({"severity": "blocker"}, "severity 'blocker'"), ({"category": "taste"}, "category 'taste'"), ({}, "None")],
)
def test_an_entry_of_no_known_severity_or_category_is_named_with_those_there_are(
    changes: dict[str, Any], seen: str
) -> None:
    entry = {"id": "odd", "category": "logic", "severity": "bug"} if changes else {"id": "odd"}
    with pytest.raises(CatalogError) as caught:
        labels._concept(entry | changes, {})
    for words in ("'odd'", seen, "error_handling", "critical"):
        assert words in str(caught.value)


def test_a_slot_that_nobody_defines_is_named() -> None:
    entry = {"id": "odd", "category": "logic", "severity": "bug", "text": "Look at {this}."}
    with pytest.raises(CatalogError, match=r"'odd' has a slot 'this' that neither it nor \[slots\] defines"):
        labels._concept(entry, {"call": ["x", "y"]})


def test_the_catalog_has_twenty_concepts_of_every_language_taught() -> None:
    concepts = load_concepts()
    asked = {spoken: sum(concept.speaks(spoken) for concept in concepts) for spoken in LANGUAGES if spoken != "other"}
    assert {spoken: number for spoken, number in asked.items() if number < 20} == {}
    assert len(concepts) >= 150
    assert {concept.category for concept in concepts} == set(labels.CATEGORIES)
    assert {concept.severity for concept in concepts} == set(labels.SEVERITIES)
