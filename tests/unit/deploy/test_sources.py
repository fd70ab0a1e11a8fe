"""What an auditor looks for in the sources, each as a rule, so that it holds for code that nobody has written yet."""

import ast
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3]
PACKAGES: Final = ("stun", "relay", "signaling", "sfu", "check", "config")
MEDIA: Final = ("stun", "relay", "sfu")  # what touches packets of media
SCRIPTS: Final = sorted((ROOT / "signaling" / "web").rglob("*.js"))

STARTS_PROCESSES: Final = {
    "config/build_native.py",  # `make native`, not the service
    "config/build_program.py",  # the same
    "config/worker_process.py",  # the interpreter that runs, with words of our own and without a shell
}
TAKES_ANY_CERTIFICATE: Final = {  # `redconnect check` tells whose certificate it sees: it sends nothing that is secret
    "check/io/dial.py",
    "check/io/probe.py",
    "check/io/service.py",
}
WRITES_FILES: Final = {
    "check/schema.py",  # writes the schema of reports for us
    "config/build_native.py",  # `make native`, not the service
    "config/build_program.py",  # the same
    "config/ctl_server.py",  # the lock of the socket of `redconnect ctl`
    "config/example.py",  # writes redconnect.example.yaml for us
    "config/state.py",  # secrets and the self-signed certificate, mode 0600
    "signaling/io/store.py",  # makes the database file, mode 0600, before SQLite does
}
DANGEROUS_MODULES: Final = {"pickle", "marshal", "shelve", "dill", "random", "telnetlib", "ftplib", "xmlrpc"}
DANGEROUS_CALLS: Final = {"eval", "exec", "compile", "__import__"}
RUNS_SQL: Final = {"execute", "exec_driver_sql", "executemany", "executescript"}


class Call(ast.NodeVisitor):
    """All calls of a module, by the last word of what is called."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, ast.Call]] = []

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        self.found.append((name, name.rpartition(".")[2], node))
        self.generic_visit(node)


@functools.cache
def modules(package: str) -> list[tuple[str, ast.Module]]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in paths]


@functools.cache
def calls(tree: ast.AST) -> list[tuple[str, str, ast.Call]]:
    visitor = Call()
    visitor.visit(tree)
    return visitor.found


@functools.cache
def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def builds_text(node: ast.AST) -> bool:
    """Whether an expression puts text together: what SQL must never be."""
    match node:
        case ast.JoinedStr() | ast.BinOp():
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace")):
            return True
    return False


def sql_from_text(tree: ast.AST) -> list[str]:
    """Calls that run SQL which is written as text and no constant."""
    found = []
    for name, last, call in calls(tree):
        if last in RUNS_SQL and call.args and builds_text(call.args[0]):
            found.append(name)
        if last == "exec_driver_sql" and not isinstance(call.args[0], ast.Constant):
            found.append(name)
        if last == "text" and "sqlalchemy.text" in imported(tree):
            found.append(name)
    return found


def starts_a_process(tree: ast.AST) -> list[str]:
    words = re.compile(r"(os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*|fork\w*)|pty\.\w+|.*create_subprocess_\w+)")
    found = [name for name, _, _ in calls(tree) if words.fullmatch(name)]
    return found + [name for name in imported(tree) if name.split(".")[0] in {"subprocess", "multiprocessing"}]


def writes_a_file(tree: ast.AST) -> list[str]:
    found = [name for name in imported(tree) if name.split(".")[0] in {"tempfile", "shutil", "sqlite3", "dbm"}]
    for name, last, call in calls(tree):
        values = (
            node.value for node in [*call.args, *(w.value for w in call.keywords)] if isinstance(node, ast.Constant)
        )
        words = [value for value in values if isinstance(value, str)]
        is_write = last in {"write_text", "write_bytes", "touch", "mkfifo", "mknod"}
        is_write |= name == "os.open" and not re.search(r"O_RDONLY|O_PATH", ast.unparse(call))
        if is_write or (last == "open" and any(re.fullmatch(r"[rwaxbt+]*[wax+][rwaxbt+]*", word) for word in words)):
            found.append(name)
    return found


def runs_text_or_bytes(tree: ast.AST) -> list[str]:
    found = [name for name in imported(tree) if name.split(".")[0] in DANGEROUS_MODULES]
    for name, _, call in calls(tree):
        if name in DANGEROUS_CALLS:
            found.append(name)
        if name.startswith("yaml.") and name.rpartition(".")[2] in {"load", "load_all", "unsafe_load", "full_load"}:
            found.append(name)
        if any(word.arg == "shell" and not is_false(word.value) for word in call.keywords):
            found.append(f"{name}(shell=…)")
    return found


def trusts_anybody(tree: ast.AST) -> list[str]:
    text = ast.unparse(tree)
    return re.findall(r"CERT_NONE|_create_unverified_context|verify=False|ssl=False|check_hostname = False", text)


def is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def guilty(rule: Callable[[ast.AST], list[str]], *packages: str) -> dict[str, list[str]]:
    trees = [each for package in packages or PACKAGES for each in modules(package)]
    return {path: found for path, tree in trees if (found := rule(tree))}


def test_no_sql_is_put_together_from_text() -> None:
    assert guilty(sql_from_text) == {}


def test_nothing_from_outside_is_run_or_unpickled() -> None:
    assert guilty(runs_text_or_bytes) == {}


def test_no_process_is_started_but_the_own_workers() -> None:
    assert set(guilty(starts_a_process)) == STARTS_PROCESSES


def test_files_are_written_in_a_few_named_places_only() -> None:
    assert set(guilty(writes_a_file)) <= WRITES_FILES


def test_what_touches_media_writes_no_file() -> None:
    assert guilty(writes_a_file, *MEDIA) == {}


def test_no_certificate_is_taken_unseen() -> None:
    assert set(guilty(trusts_anybody)) == TAKES_ANY_CERTIFICATE


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (sql_from_text, "connection.execute(f'select {name}')"),
        (sql_from_text, "connection.execute('select ' + name)"),
        (sql_from_text, "connection.exec_driver_sql(statement)"),
        (sql_from_text, "from sqlalchemy import text\nconnection.execute(text('select 1'))"),
        (starts_a_process, "import subprocess"),
        (starts_a_process, "os.system('ls')"),
        (starts_a_process, "await asyncio.create_subprocess_exec('ls')"),
        (writes_a_file, "Path('x').write_bytes(packet)"),
        (writes_a_file, "open('x', 'ab')"),
        (writes_a_file, "path.open(mode='w')"),
        (writes_a_file, "os.open('x', flags)"),
        (writes_a_file, "os.open('x', os.O_WRONLY)"),
        (writes_a_file, "import tempfile"),
        (runs_text_or_bytes, "import pickle"),
        (runs_text_or_bytes, "from random import choice"),
        (runs_text_or_bytes, "eval(text)"),
        (runs_text_or_bytes, "yaml.load(text)"),
        (runs_text_or_bytes, "run('x', shell=True)"),
        (trusts_anybody, "context.verify_mode = ssl.CERT_NONE"),
        (trusts_anybody, "session.get(url, ssl=False)"),
    ],
)
def test_a_breach_would_be_found(rule: Callable[[ast.AST], list[str]], code: str) -> None:
    assert rule(ast.parse(code)) or rule(ast.parse(f"async def f():\n {code}"))


JS_RULES: Final = {
    "markup or code out of text": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    r"|DOMParser|createContextualFragment|set(?:Timeout|Interval)\(\s*[\"'`]|javascript:",
    "a recorder, or pictures as files": r"MediaRecorder|captureStream|toDataURL|toBlob|getImageData|createObjectURL"
    r"|showSaveFile|MediaStreamTrackProcessor",
    "a request to anybody else": r"\bfetch\((?!\s*[\"'`]/(?!/))|XMLHttpRequest|sendBeacon|EventSource|importScripts"
    r"|serviceWorker|navigator\.share",
    "a cookie or a data base": r"document\.cookie|cookieStore|indexedDB|caches\.|openDatabase",
    "a window or page of others": r"window\.open|location\.(?:assign|replace)|location(?:\.href)?\s*=[^=]",
    "an address of others": r"(?:https?|wss?|stuns?|turns?):(?!//\.)(?=[\w/])",
}
HARMLESS: Final = ("http://www.w3.org/2000/svg",)  # a name of XML, which nobody fetches
STORES: Final = {"preferences.js", "session.js"}


def scripts_with(pattern: str) -> dict[str, list[str]]:
    found = {}
    for path in SCRIPTS:
        text = without_comments(path.read_text())
        for harmless in HARMLESS:
            text = text.replace(harmless, "")
        for name in re.findall(r"const (\w+) = \"/(?!/)", text):  # a path of our own
            text = text.replace(f"fetch({name}", 'fetch("/')
        if matches := re.findall(pattern, text):
            found[path.name] = matches
    return found


def without_comments(script: str) -> str:
    return re.sub(r"/\*.*?\*/|(?<![:\"'`\w])//[^\n]*", "", script, flags=re.DOTALL)


@pytest.mark.parametrize("rule", JS_RULES)
def test_no_script_of_the_pages_has(rule: str) -> None:
    assert scripts_with(JS_RULES[rule]) == {}


def test_two_modules_alone_touch_the_storage_of_the_browser() -> None:
    assert set(scripts_with(r"localStorage|sessionStorage")) == STORES


def test_the_scripts_are_really_read() -> None:
    assert len(SCRIPTS) > 50
    assert "room.js" in scripts_with(r"new URL\(\"/ws\"")
