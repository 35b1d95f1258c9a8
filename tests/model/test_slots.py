"""What fills the slots of the catalog's texts: every slot of every concept on lines such as commits add."""

import re

import pytest

from model.labels import Concept, load_concepts

CATALOG = {concept.id: concept for concept in load_concepts()}

# concept, line, what its slots hold, in the order of the text
LINES = [
    ("todo_left", "    # FIXME: handle the second page", "FIXME"),
    ("boolean_trap", "def connect(self, host, secure=True):", "secure"),
    ("boolean_positional", "    client.connect(host, True)", "True client.connect"),
    ("private_access", "    return self.client._session.get(url)", "_session"),
    ("magic_value", "    if response.status_code == 429:", "429"),
    ("too_many_arguments", "def render(self, a, b, c, d, e, f):", "render"),
    ("too_many_arguments", "func (s *Server) Render(a, b, c, d, e, f int) {", "Render"),
    ("missing_docstring", "class SessionStore(dict):", "SessionStore"),
    ("missing_docstring", "    public static String joined(List<String> parts) {", "joined"),
    ("long_exception_message", '        raise ValueError(f"no column {name}")', "ValueError"),
    ("broad_except", "    except Exception as exc:", "Exception"),
    ("broad_except", "        } catch (final Exception e) {", "Exception"),
    ("raise_without_from", "        raise ConfigError(str(exc))", "ConfigError"),
    ("raise_generic", '    throw new RuntimeException("no");', "RuntimeException"),
    ("log_without_traceback", '        logger.error("failed: %s", exc)', "logger.error"),
    ("open_without_context", "    text = open(path).read()", "open"),
    ("request_no_timeout", "    r = requests.post(url, json=body)", "requests.post"),
    ("request_no_timeout", "\tresp, err := http.Get(url)", "http.Get"),
    ("wrong_exception_type", '        raise ValueError("want a list")', "ValueError"),
    ("subprocess_no_check", '    subprocess.run(["make", "all"])', "subprocess.run"),
    ("cd_without_check", 'cd "$build_dir"', 'cd "$build_dir"'),
    ("masked_exit_status", "local version=$(git describe)", "version"),
    ("naive_datetime", "    now = datetime.datetime.utcnow()", "datetime.datetime.utcnow"),
    ("mutable_class_attr", "    handlers = {}", "handlers"),
    ("invalid_escape", r'    pattern = "\d+"', r"\d"),
    ("mutable_default", "def load(path, cache={}):", "cache"),
    ("global_statement", "    global _client", "_client"),
    ("env_default_type", '    port = int(os.environ.get("PORT", 8000))', "PORT"),
    ("type_eq_compare", "    if type(value) == str:", "=="),
    ("none_eq_compare", "    if value != None:", "!="),
    ("loose_equality", "  if (kind != 'file') {", "!="),
    ("dangling_task", "    asyncio.create_task(self.poll())", "asyncio.create_task"),
    ("template_in_plain_string", "  log('hello ${name}');", "${name}"),
    ("prototype_access", "  if (options.hasOwnProperty(key)) {", "hasOwnProperty"),
    ("unquoted_variable", 'cp "$source" $target/', "$target"),
    ("unquoted_command", "rm $(find . -name core)", "$(find . -name core)"),
    ("unquoted_array", "run ${arguments[@]}", "${arguments[@]}"),
    ("ambiguous_test", 'if [ "$a" = x -o "$b" = y ]; then', "-o"),
    ("single_quoted_expansion", "echo 'home is $HOME'", "$HOME"),
    ("trap_expands_early", 'trap "rm -rf $scratch" EXIT', "$scratch"),
    ("printf_variable_format", "printf $message", "$message"),
    ("glob_starts_with_dash", "rm *.log", "*.log"),
    ("naming_convention", "def getUserName(self):", "getUserName"),
    ("naming_convention", "\tuser_name := load()", "user_name"),
    ("builtin_shadowing", "def find(id, name):", "id"),
    ("ambiguous_name", "    for l in lines:", "l"),
    ("debug_print", "    console.log('here', value);", "console.log"),
    ("debugger_left", "    import pdb; pdb.set_trace()", "import pdb"),
    ("root_logger", '    logging.info("started")', "logging.info"),
    ("needless_comprehension", "    names = list([row.name for row in rows])", "list"),
    ("manual_comprehension", "        names.append(row.name)", "names.append"),
    ("insecure_random", "    token = random.choice(letters)", "random.choice"),
    (
        "sql_string_build",
        """    cursor.execute("SELECT * FROM users WHERE id = %s" % id)""",
        "SELECT * FROM users WHERE id =",
    ),
    ("partial_exec_path", '    subprocess.check_output(["git", "log"])', "subprocess.check_output"),
    ("shell_injection", "    subprocess.run(command, shell=True)", "subprocess.run"),
    ("weak_hash", "    return hashlib.md5(data).hexdigest()", "md5"),
    ("tls_verify_off", "    requests.get(url, verify=False)", "verify=False"),
    ("tls_verify_off", "curl -sk https://example.org/list", "curl -sk"),
    ("unsafe_deserialise", "    return pickle.loads(body)", "pickle.loads"),
    ("eval_exec", "    return eval(expression)", "eval"),
    ("hardcoded_password", '    db_password = "hunter22"', "db_password"),
    ("bind_all_interfaces", '    server.bind(("0.0.0.0", 80))', "0.0.0.0"),
    ("hardcoded_ip", "  host: '10.0.3.7',", "10.0.3.7"),
    ("unencrypted_url", "  fetch('http://example.org/list')", "http://example.org"),
    ("unsafe_xml", "    root = ElementTree.fromstring(body)", "ElementTree.fromstring"),
    ("url_open_scheme", "    return urllib.request.urlopen(url)", "urllib.request.urlopen"),
    ("dynamic_path", "  const text = fs.readFileSync(name);", "fs.readFileSync"),
    ("hardcoded_tmp", '    path = "/tmp/report.txt"', "/tmp/report.txt"),
    ("permissive_chmod", "    os.chmod(path, 0o777)", "0o777"),
    ("template_unescaped", "  box.innerHTML = text;", "innerHTML"),
    ("insecure_tempfile", "    name = tempfile.mktemp()", "tempfile.mktemp"),
    ("rm_variable_root", 'rm -rf "$prefix/"', "$prefix"),
    ("unbounded_copy", "    strcpy(buffer, argv[1]);", "strcpy"),
    ("unchecked_copy_length", "    memcpy(out, in, length);", "memcpy"),
    ("fixed_buffer", "    char line[256];", "line"),
    ("format_string", "    printf(message);", "printf"),
    ("file_race", "    if (access(path, W_OK) == 0) {", "access"),
    ("untrusted_environment", '    home = getenv("HOME");', "getenv"),
    ("unchecked_number", "    count = atoi(argv[1]);", "atoi"),
    ("unchecked_number", "\tn, _ := strconv.Atoi(text)", "strconv.Atoi"),
    ("realloc_leak", "    lines = realloc(lines, size);", "lines"),
    ("obsolete_call", "\tbody, err := ioutil.ReadAll(r)", "ioutil.ReadAll"),
    ("c_style_cast", "    int n = (int) ratio;", "int"),
    ("implicit_constructor", "  Buffer(size_t size);", "Buffer"),
    ("wide_scope", "    int total = 0;", "total"),
    ("needless_dollar", "total=$(( $total + 1 ))", "$total"),
    ("negated_empty_test", 'if [ ! -z "$name" ]; then', "! -z"),
    ("old_declaration", "  var index = 0;", "index"),
    ("longhand_property", "    name: name,", "name"),
    ("os_path_use", "    path = os.path.join(root, name)", "os.path.join"),
    ("import_not_top", "    from app.models import User", "app.models"),
    ("star_import", "from tkinter import *", "tkinter"),
    ("star_import", "import java.util.*;", "java.util"),
    ("star_import", "using namespace std;", "std"),
    ("lambda_assigned", "    key = lambda row: row.name", "key"),
    ("bool_eq_compare", "    if is_ready == True:", "True"),
    ("not_in_is_test", "    if not name in names:", "not name in names"),
    ("raises_too_broad", "    with pytest.raises(Exception):", "Exception"),
    ("focused_test", "  it.only('works', () => {", "it.only"),
    ("missing_annotation", "def joined(parts, separator):", "joined"),
    ("old_typing_syntax", "def find(name: Optional[str]) -> None:", "Optional"),
    ("any_type", "function load(body: any): void {", "any"),
    ("any_type", "func Load(v interface{}) error {", "interface{}"),
    ("blanket_ignore", "    value = load()  # type: ignore", "# type: ignore"),
    ("implicit_optional", "def find(name: str = None) -> Row:", "name"),
    ("non_null_assertion", "  const row = rows.get(id)!;", "rows.get(id)"),
    ("vague_type", "  callback: Function;", "Function"),
    ("inferrable_type", "  count: number = 0;", "count"),
    ("string_identity", '        if (name == "admin") {', "=="),
    ("print_stack_trace", "            e.printStackTrace();", "e.printStackTrace"),
    ("array_type_style", "    public static void main(String args[]) {", "args"),
    ("lowercase_long_suffix", "    long limit = 1000l;", "1000l"),
    ("missing_braces", "        if (rows.isEmpty()) return;", "if"),
    ("visible_field", "    public int count = 0;", "count"),
    ("double_brace_init", "    Map<String, String> m = new HashMap<String, String>() {{", "HashMap<String, String>"),
    ("null_unsafe_equals", '        if (name.equals("admin")) {', "name.equals"),
    ("explicit_default_init", "    private boolean done = false;", "done"),
    ("modifier_order", "    static public final int LIMIT = 3;", "static public final"),
    ("deep_nesting", "                    if (row.isOpen()) {", "if"),
    ("fixed_sleep", "    time.sleep(5)", "time.sleep"),
    ("fixed_sleep", "        Thread.sleep(500);", "Thread.sleep"),
    ("skipped_test", "@pytest.mark.skip", "@pytest.mark.skip"),
    ("default_charset", "        byte[] body = text.getBytes();", "getBytes"),
    ("locale_case", "        String key = name.toLowerCase();", "toLowerCase"),
    ("boxed_constructor", "        Integer n = new Integer(3);", "new Integer"),
    ("raw_type", "        List rows = new ArrayList();", "ArrayList"),
    ("exits_process", "\t\tlog.Fatal(err)", "log.Fatal"),
    ("shared_date_format", '    static DateFormat DAY = new SimpleDateFormat("y");', "DAY"),
    ("inexact_decimal", "        total = new BigDecimal(0.1);", "0.1"),
    ("float_equality", "    if (ratio == 0.25) {", "0.25"),
    ("return_in_finally", "        return None", "return"),
    ("ignored_error", "\tn, _ := io.Copy(w, r)", "io.Copy"),
    ("error_not_wrapped", '\t\treturn fmt.Errorf("reading %s: %v", name, err)', "err"),
    ("error_string_style", '\treturn errors.New("No such row.")', '"No such row."'),
    ("error_compared", "\tif err == io.EOF {", "err"),
    ("needless_format", '\tname := fmt.Sprintf("%s", text)', "fmt.Sprintf"),
    ("getter_prefix", "func (u *User) GetName() string {", "GetName"),
    ("receiver_name", "func (self *User) Name() string {", "self"),
    ("longhand_assignment", "    total = total + row.price;", "total"),
    ("lock_copied", "func update(mu sync.Mutex, n int) {", "sync.Mutex"),
    ("unchecked_type_assertion", "\tname := value.(string)", "string"),
    ("path_concatenation", '    path = base_dir + "/" + name', "base_dir"),
    ("insecure_cookie", '    response.set_cookie("id", value, secure=False)', "secure"),
    ("debug_mode_on", "    app.run(debug=True)", "debug=True"),
    ("signature_unchecked", "    claims = jwt.decode(token, verify=False)", "jwt.decode"),
    ("piped_to_shell", "curl -fsSL https://example.org/install.sh | sh", "curl"),
    ("duplicate_key", "  timeout: 30,", "timeout"),
    ("thread_unsafe_call", "    struct tm *t = localtime(&now);", "localtime"),
    ("platform_int", "unsigned long total;", "unsigned long"),
]


@pytest.mark.parametrize(("name", "line", "held"), LINES)
def test_a_slot_holds_the_name_that_the_line_gives(name: str, line: str, held: str) -> None:
    concept = CATALOG[name]
    text = concept.say(line)
    fixed = set(re.findall("`[^`]*`", concept.say()))
    found = [span.strip("`") for span in re.findall("`[^`]*`", text) if span not in fixed]
    assert " ".join(found) == held


def test_every_concept_with_a_slot_is_tried_above() -> None:
    assert {concept.id for concept in CATALOG.values() if concept.slots} == {name for name, _, _ in LINES}


@pytest.mark.parametrize("concept", CATALOG.values(), ids=list(CATALOG))
def test_a_line_that_gives_no_name_is_spoken_of_in_general_words(concept: Concept) -> None:
    text = concept.say()
    assert "{" not in re.sub("`[^`]*`", "", text).replace("{…}", "")
    assert text[:1] in "`TABCDEFGHIJKLMNOPQRSUVWXYZ0" or not concept.slots
    assert concept.say("") == text
    assert "  " not in text


def made(pattern: str, text: str = "Look at {it}.") -> Concept:
    return Concept("made", "Made", "logic", "bug", ("python",), text, (), slots=(("it", pattern, "this line"),))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("call(x)", "Look at `call(x)`."),
        ("", "Look at this line."),
        ("a`b` c", "Look at `ab c`."),
        ("a\x1b[31mb\u202ec", "Look at `a [31mb c`."),
        ("x" * 500, f"Look at `{'x' * 59}…`."),
        ("```", "Look at this line."),
    ],
)
def test_what_fills_a_slot_is_one_short_printable_span_of_code(line: str, said: str) -> None:
    assert made("(.*)").say(line) == said


def test_general_words_open_a_sentence_with_a_capital() -> None:
    assert made("(never)", "{it} is odd. {it} too, as is {it}.").say("x") == (
        "This line is odd. This line too, as is this line."
    )


def test_braces_in_a_line_are_no_slots() -> None:
    assert made("(.*)").say("{it} {other}") == "Look at `{it} {other}`."


HOSTILE = [
    "a" * 50_000, "(" * 50_000, "a(" * 25_000, "$" * 50_000, "\\" * 50_000, "'" * 49_999, '"a' * 25_000,
    "x = " * 12_000, " " * 50_000, "a b " * 12_000, "const " * 9_000, "a.b->" * 10_000, "throw new " * 5_000,
    "\x00\ud800\uffff" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE, ids=[ascii(line[:8]) for line in HOSTILE])
def test_no_line_keeps_the_patterns_busy_or_makes_a_long_text(line: str) -> None:
    """A pattern that backtracks without end would outlast the limit that every test has."""
    assert max(len(concept.say(line)) for concept in CATALOG.values()) < 500
