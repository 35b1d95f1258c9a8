"""Every rule on a line that it must report, beside lines that look like it and are right."""

import re
from pathlib import Path

import pytest

from model.labels import load_concepts, rules_of
from model.teachers import Teacher, astgrep
from tests.model.teachers.present import check, present

# `~` and the concepts that the line must be reported for, which the analyzer does not see; none where nothing follows.
SOURCES = {
    "a.go": """\
package main

import . "fmt"                                                 ~ star_import

// Load reads.
func Load(a, b int, v interface{}) error {                     ~ any_type
	n, _ := strconv.Atoi(s)                                    ~ ignored_error unchecked_number
	_ = f.Close()                                              ~ ignored_error
	v, ok := cache[key]
	v, _, _ := tree.find(key)
	if err == io.EOF {                                         ~ error_compared return_flow
		return fmt.Errorf("reading: %v", err)                  ~ error_not_wrapped
	} else {
		n = 1
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("reading: %w", err)
	}
	if e, ok := err.(*os.PathError); ok {                      ~ error_compared
		return e
	}
	x = x + 1                                                  ~ longhand_assignment
	x += 1
	y = y                                                      ~ identical_operands
	t := v.(string)                                            ~ unchecked_type_assertion
	t, ok := v.(string)
	fmt.Println(t)                                             ~ debug_print
	fmt.Fprintln(w, t)
	q := fmt.Sprintf("SELECT * FROM a WHERE id = %s", id)      ~ sql_string_build
	q := "SELECT * FROM a WHERE id = " + id                    ~ sql_string_build
	rows, err := db.Query("SELECT * FROM a WHERE id = $1", id)
	c := &http.Client{}                                        ~ request_no_timeout
	r, err := http.Get(url)                                    ~ request_no_timeout
	c := &http.Client{Timeout: time.Second}
	s := tls.Config{InsecureSkipVerify: true}                  ~ tls_verify_off
	k := ssh.InsecureIgnoreHostKey()                           ~ tls_verify_off
	os.MkdirAll(p, 0777)                                       ~ permissive_chmod
	os.MkdirAll(p, 0o755)
	for i, _ := range xs {                                     ~ needless_code
	}
	password := "hunter22"                                     ~ hardcoded_password
	password := os.Getenv("PASSWORD")
	panic("no")                                                ~ panic_in_library
	w := template.HTML(text)                                   ~ template_unescaped
	ctx := context.TODO()                                      ~ context_todo
	z := fmt.Sprintf("%s", name)                               ~ needless_format
	z := fmt.Sprintf("%s-%d", name, n)
	p := unsafe.Pointer(&x)                                    ~ unsafe_pointer
	f := dir + "/" + name                                      ~ path_concatenation
	time.Sleep(5 * time.Second)                                ~ fixed_sleep
	t.Skip()                                                   ~ skipped_test
	if ratio == 0.25 {                                         ~ float_equality
	}
	if ratio == 0.0 {
	}
	os.Exit(1)                                                 ~ exits_process
	log.Fatal(err)                                             ~ exits_process
	// foo.Bar(x)                                              ~ commented_out_code
	// Bar does what foo says.
	x := 1 //nolint                                            ~ blanket_ignore
	x := 1 //nolint:errcheck
	cmd := exec.Command("sh", "-c", text)                      ~ shell_injection
	cmd := exec.Command("ls", "-l")
	h := md5.New()                                             ~ weak_hash
	net.Listen("tcp", "0.0.0.0:80")                            ~ bind_all_interfaces
	net.Listen("tcp", "127.0.0.1:80")
	rand.Intn(3)                                               ~ insecure_random
	rand.Seed(3)                                               ~ insecure_random obsolete_call
	name := "/tmp/out"                                         ~ hardcoded_tmp
	b, err := ioutil.ReadAll(r)                                ~ obsolete_call
	s = strings.Replace(s, "a", "b", -1)                       ~ outdated_idiom
	d := time.Now().Sub(start)                                 ~ outdated_idiom
	if strings.Index(s, "a") != -1 {                           ~ outdated_idiom
	}
	if done == true {                                          ~ bool_eq_compare
	}
	ck := http.Cookie{HttpOnly: false}                         ~ insecure_cookie
	w.Header().Set("Access-Control-Allow-Origin", "*")         ~ cors_any_origin
	tok, _, err := parser.ParseUnverified(text, claims)        ~ signature_unchecked
	var count int = 3                                          ~ inferrable_type
	my_name := 3                                               ~ naming_convention
	return errors.New("Something bad")                         ~ error_string_style
}

func Lock(m sync.Mutex) {                                      ~ lock_copied missing_docstring
}

// GetName is here.
func (self *T) GetName() string { return self.name }           ~ receiver_name getter_prefix

func init() {                                                  ~ init_function
}

func read_all(a, b, c, d, e int) {                             ~ naming_convention
}

func many(a int, b int, c int, d int, e int, f int) {          ~ too_many_arguments
}
""",
    "A.java": """\
class A {
    static final SimpleDateFormat FORMAT = new SimpleDateFormat("y");  ~ shared_date_format
    @Disabled                                                  ~ skipped_test
    @SuppressWarnings("all")                                   ~ blanket_ignore
    @SuppressWarnings("unchecked")
    void f(Exception e, String s, Object o) throws Exception {
        e.printStackTrace();                                   ~ print_stack_trace
        System.out.println(s);                                 ~ debug_print
        System.exit(1);                                        ~ exits_process
        Thread.sleep(100);                                     ~ fixed_sleep
        s.getBytes();                                          ~ default_charset
        s.getBytes(UTF_8);
        new FileReader(file);                                  ~ default_charset
        s.toLowerCase();                                       ~ locale_case
        s.toLowerCase(Locale.ROOT);
        new Integer(3);                                        ~ boxed_constructor
        new String(bytes, UTF_8);
        List l = new ArrayList();                              ~ raw_type
        List<String> k = new ArrayList<>();
        new BigDecimal(0.1);                                   ~ inexact_decimal
        new BigDecimal("0.1");
        if (d == 0.25) { }                                     ~ float_equality
        try { g(); } catch (NullPointerException x) { }        ~ caught_null_pointer
        try { g(); } finally {
            return;                                            ~ return_in_finally
        }
    }
    void h(String a) {
        if (a == null) { throw new RuntimeException("x"); }    ~ raise_generic
        int n = a ? b ? 1 : 2 : 3;                             ~ nested_ternary
        String.format("%s", a);                                ~ needless_format
        n = n + 1;                                             ~ longhand_assignment
        n = n;                                                 ~ identical_operands
        String p = baseDir + "/" + a;                          ~ path_concatenation
        new File(base + a);                                    ~ dynamic_path
        // foo(bar);                                           ~ commented_out_code
        // what foo does to bar.
        new Random();                                          ~ insecure_random
        new SecureRandom();
        String q = "SELECT x FROM y WHERE z = '" + a + "'";    ~ sql_string_build
        String.format("DELETE FROM y WHERE z = %s", a);        ~ sql_string_build
        Runtime.getRuntime().exec("ls " + a);                  ~ shell_injection
        MessageDigest.getInstance("MD5");                      ~ weak_hash
        MessageDigest.getInstance("SHA-256");
        client.setVerifier(NoopHostnameVerifier.INSTANCE);     ~ tls_verify_off
        new ObjectInputStream(in);                             ~ unsafe_deserialise
        engine.eval(a);                                        ~ eval_exec
        String password = "hunter22";                          ~ hardcoded_password
        String t = "/tmp/out";                                 ~ hardcoded_tmp
        DocumentBuilderFactory.newInstance();                  ~ unsafe_xml
        cookie.setHttpOnly(false);                             ~ insecure_cookie
        r.addHeader("Access-Control-Allow-Origin", "*");       ~ cors_any_origin
        new Hashtable();                                       ~ obsolete_call
    }
    public void checkServerTrusted(X[] c, String t) { }        ~ tls_verify_off
}
""",
    "a.js": """\
box.innerHTML = text;                                          ~ template_unescaped
box.innerHTML = '<b>fixed</b>';
document.write(text);                                          ~ template_unescaped
const p = { __html: text };                                    ~ template_unescaped
process.exit(1);                                               ~ exits_process
if (ratio === 0.25) {}                                         ~ float_equality
if (ratio === 1) {}
const f = baseDir + '/' + name;                                ~ path_concatenation
const c = { httpOnly: false };                                 ~ insecure_cookie
res.set('Access-Control-Allow-Origin', '*');                   ~ cors_any_origin
const h = { 'Access-Control-Allow-Origin': '*' };              ~ cors_any_origin
jwt.decode(token);                                             ~ signature_unchecked
jwt.verify(token, key);
""",
    "a.ts": "process.exit(1 as number);                                ~ exits_process\n",
    "a.tsx": "export const v = <b dangerouslySetInnerHTML={{ __html: x }} />;  ~ template_unescaped\n",
    "a.py": """\
time.sleep(5)                                                  ~ fixed_sleep
@pytest.mark.skip                                              ~ skipped_test
def test(): pass
if ratio == 0.25: pass                                         ~ float_equality
if ratio == 0.0: pass
path = base_dir + "/" + name                                   ~ path_concatenation
response.set_cookie("a", secure=False)                         ~ insecure_cookie
headers["Access-Control-Allow-Origin"] = "*"                   ~ cors_any_origin
DEBUG = True                                                   ~ debug_mode_on
jwt.decode(token, key, verify=False)                           ~ signature_unchecked
jwt.decode(token, key, algorithms=["HS256"])
""",
    "a.sh": """\
curl https://x.test/install | sh                               ~ piped_to_shell
curl https://x.test/list | sort
curl -sk https://x.test                                        ~ tls_verify_off
curl -sS https://x.test
ssh -o StrictHostKeyChecking=no host                           ~ tls_verify_off
chmod 777 file                                                 ~ permissive_chmod
chmod 755 file
eval "$text"                                                   ~ eval_exec
PASSWORD="hunter22"                                            ~ hardcoded_password
PASSWORD="$1"
echo x > /tmp/out                                              ~ hardcoded_tmp
md5sum file                                                    ~ weak_hash
sleep 5                                                        ~ fixed_sleep
""",
    "a.c": """\
void f(void) {
    x = x;                                                     ~ identical_operands
    x = x + 1;                                                 ~ longhand_assignment
    if (ratio == 0.25) { }                                     ~ float_equality
    t = localtime(&now);                                       ~ thread_unsafe_call
    t = localtime_r(&now, &b);
    MD5(a, b, c);                                              ~ weak_hash
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, 0);               ~ tls_verify_off
    char *password = "hunter22";                               ~ hardcoded_password
    chmod(path, 0777);                                         ~ permissive_chmod
    sleep(5);                                                  ~ fixed_sleep
    // foo(bar);                                               ~ commented_out_code
    // what foo does
    printf("debug %d", x);                                     ~ debug_print
    printf("%d", x);
}
""",
    "a.cpp": "int f() { return x == 0.25; }                             ~ float_equality\n",
}


@pytest.fixture
def teacher() -> Teacher:
    return present(astgrep.teacher)


@pytest.mark.parametrize("name", SOURCES)
def test_each_line_is_reported_for_what_it_is_and_nothing_else(name: str, teacher: Teacher, tmp_path: Path) -> None:
    lines = [line.partition("~") for line in SOURCES[name].splitlines()]
    expected = {(row, concept) for row, (_, _, said) in enumerate(lines, start=1) for concept in said.split()}
    report = check(teacher, tmp_path, {name: "".join(f"{text.rstrip()}\n" for text, _, _ in lines)})
    assert {(one.row, one.code) for one in report.diagnostics} == expected
    assert report.unparsable == frozenset()


def test_every_rule_is_tried_above() -> None:
    tried = {
        concept for source in SOURCES.values() for said in re.findall(r"~(.*)", source) for concept in said.split()
    }
    named = {rule.splitlines()[0].split()[1].partition(".")[0] for rule in map(_plain, astgrep.rules())}
    assert named - {"unparsable"} == tried


def test_a_rule_is_asked_in_just_the_languages_that_its_concept_speaks() -> None:
    """Each rule reports a concept that names it, and each concept that names this teacher has a rule."""
    concepts = dict(rules_of("astgrep", load_concepts()))
    spoken: dict[str, set[str]] = {}
    for rule in map(_plain, astgrep.rules()):
        head, language = rule.splitlines()[0].split()[1].partition(".")[0], rule.splitlines()[1].split()[1]
        if head != "unparsable":
            spoken.setdefault(head, set()).add(astgrep.LANGUAGES[language])
    assert set(spoken) == set(concepts)
    assert {name for name, there in spoken.items() if there - set(concepts[name].languages)} == set()


def _plain(rule: str) -> str:
    """Without the comment that opens a file."""
    return "\n".join(line for line in rule.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(("name", "text"), [("a.go", "package a\nfunc ( {\n"), ("A.java", "class X { void f( { }\n")])
def test_a_file_that_does_not_parse_is_named_and_the_others_are_read(
    name: str, text: str, teacher: Teacher, tmp_path: Path
) -> None:
    report = check(teacher, tmp_path, {name: text, "b.py": "time.sleep(5)\n"})
    assert report.unparsable == {name}
    assert ("b.py", 1, "fixed_sleep") in {(one.file, one.row, one.code) for one in report.diagnostics}
