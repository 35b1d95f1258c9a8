"""JavaScript and TypeScript, by eslint: the rules the catalog names, without any project's configuration."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from model.teachers import Diagnostic, Report, Teacher, TeacherAbsent

_PACKAGES = (
    "eslint",
    "@typescript-eslint/parser",
    "@typescript-eslint/eslint-plugin",
    "eslint-plugin-security",
    "eslint-plugin-sonarjs",
)
_OPTIONS = {
    "eqeqeq": ["smart"],
    "no-unused-expressions": [{"allowShortCircuit": True, "allowTernary": True}],
    "no-empty": [{"allowEmptyCatch": False}],
    "max-params": [5],
}
_CRASHED = "rule crashed: "
_CONFIG = """
import {{ createRequire }} from 'node:module';
const require = createRequire({modules} + '/');
const load = (name) => {{ const found = require(name); return found.default ?? found; }};
const parser = load('@typescript-eslint/parser');
// A plugin's rule that crashes says so of its file, instead of taking the whole run with it.
const guarded = (rule) => ({{ ...rule, create: (context) => {{
  const said = new Set();
  const crashed = (error) => {{
    if (!said.size) context.report({{ loc: {{ line: 1, column: 0 }}, message: {crashed} + error }});
    said.add(error);
  }};
  const guard = (call) => (...given) => {{ try {{ return call(...given); }} catch (error) {{ crashed(error); }} }};
  const listeners = guard(() => rule.create(context))() ?? {{}};
  return Object.fromEntries(Object.entries(listeners).map(([on, call]) => [on, guard(call)]));
}} }});
const guard_all = (plugin) => ({{ ...plugin,
  rules: Object.fromEntries(Object.entries(plugin.rules).map(([name, rule]) => [name, guarded(rule)])) }});
const plugins = {{
  '@typescript-eslint': guard_all(load('@typescript-eslint/eslint-plugin')),
  security: guard_all(load('eslint-plugin-security')),
  sonarjs: guard_all(load('eslint-plugin-sonarjs')),
}};
const core = new Map(load('eslint/use-at-your-own-risk').builtinRules);
const known = (name) => {{
  const [plugin, rule] = name.includes('/') ? name.split(/\\/(?=[^/]*$)/) : [null, name];
  return plugin ? Boolean(plugins[plugin]?.rules?.[rule]) : core.has(rule);
}};
const options = {options};
const on = (names) => Object.fromEntries(names.filter(known).map((name) => [name, ['warn', ...(options[name] ?? [])]]));
const rules = on({rules});
export default [
  {{ files: ['**/*.{{js,mjs,jsx,cjs}}'], plugins, rules,
    languageOptions: {{ ecmaVersion: 'latest', parserOptions: {{ ecmaFeatures: {{ jsx: true }} }} }} }},
  {{ files: ['**/*.{{ts,tsx,mts,cts}}'], plugins, rules,
    languageOptions: {{ parser, parserOptions: {{ ecmaFeatures: {{ jsx: true }} }} }} }},
];
"""


def teacher(rules: Sequence[str], modules: Path | None = None) -> Teacher:
    """`modules`: the node_modules folder that has eslint and its plugins; default ./node_modules."""
    modules = (modules or Path("node_modules")).resolve()
    node = shutil.which("node")
    missing = [name for name in _PACKAGES if not (modules / name).is_dir()]
    if node is None or missing:
        raise TeacherAbsent(
            f"eslint cannot run: {'node is not on PATH' if node is None else f'{modules} lacks {missing[0]}'}; "
            f"npm install {' '.join(_PACKAGES)}"
        )
    main = str(modules / "eslint" / "bin" / "eslint.js")

    def check(folder: Path, files: Sequence[str]) -> Report:
        config = folder / "eslint.config.mjs"
        config.write_text(
            _CONFIG.format(
                modules=json.dumps(str(modules)),
                options=json.dumps(_OPTIONS),
                rules=json.dumps(sorted(rules)),
                crashed=json.dumps(_CRASHED),
            )
        )
        command = [node, main, "--no-inline-config", "--config", str(config), "--format", "json", "--no-warn-ignored"]
        return _run(command, folder, files)

    return Teacher("eslint", ("javascript", "typescript"), check)


def _run(command: Sequence[str], folder: Path, files: Sequence[str]) -> Report:
    done = subprocess.run([*command, *files], cwd=folder, capture_output=True, check=False)
    if done.returncode == 2:
        if "Occurred while linting" not in (said := done.stderr.decode(errors="replace")):
            raise RuntimeError(f"eslint failed: {said[-2000:]}")
        if len(files) == 1:
            return Report((), frozenset(files))
        half = len(files) // 2  # a rule of eslint's own crashed: its file is found by halving
        first, second = _run(command, folder, files[:half]), _run(command, folder, files[half:])
        return Report(first.diagnostics + second.diagnostics, first.unparsable | second.unparsable)
    diagnostics, broken = [], set()
    for file in json.loads(done.stdout):
        name = str(Path(file["filePath"]).relative_to(folder.resolve()))
        for one in file["messages"]:
            if one.get("fatal") or one["ruleId"] is None or one["message"].startswith(_CRASHED):
                broken.add(name)
            else:
                diagnostics.append(Diagnostic(name, one["line"], one.get("endLine") or one["line"], one["ruleId"]))
    return Report(tuple(diagnostics), frozenset(broken))
