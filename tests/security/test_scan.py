"""What no line of the code may do: unpickle, run text, unpack an archive, load YAML with objects, speak to a shell."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("model", "pipeline", "cluster") for path in (ROOT / package).rglob("*.py"))
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
RUN_TEXT = {"eval", "exec", "compile", "builtins.eval", "builtins.exec"}
SHELLS = ("os.system", "os.popen", "os.spawn", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn")
ENDINGS = {
    ".extractall": "a member may lead anywhere",
    ".extract": "a member may lead anywhere",
    "_object_list": "objects travel between ranks as pickle",
    "gather_object": "objects travel between ranks as pickle",
    "scatter_object": "objects travel between ranks as pickle",
    ".read_pickle": "pickle",
    ".load_pickle": "pickle",
    "unpack_archive": "a member may lead anywhere",
}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def faults(text: str) -> list[str]:
    """What of a file is not allowed, and in which line."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: imports {name}" for name in names if name.partition(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.Call):
            found += [f"{node.lineno}: {fault}" for fault in _call(node)]
    return found


def _call(node: ast.Call) -> list[str]:
    called = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    first = node.args[0] if node.args else None
    found = [f"{called}: {why}" for ending, why in ENDINGS.items() if called.endswith(ending)]
    if called in RUN_TEXT or called.startswith(SHELLS):
        found.append(f"{called} runs text")
    if called.partition(".")[0] in UNPICKLERS:
        found.append(f"{called} unpickles")
    if called == "torch.load" and keywords.get("weights_only") != "True":
        found.append("torch.load without weights_only=True")
    if called in ("np.load", "numpy.load") or called.endswith("format.read_array"):
        found += ["np.load with allow_pickle"] * (keywords.get("allow_pickle", "False") != "False")
    if called.startswith("yaml.") and called.endswith("load") and called != "yaml.safe_load":
        safe = (
            called == "yaml.load"
            and len(node.args) == 2
            and ast.unparse(node.args[1]) in ("_Loader", "yaml.SafeLoader")
        )
        found += [] if safe else [f"{called} without a safe loader"]
    if keywords.get("shell", "False") != "False":
        found.append("a shell")
    if called.startswith("subprocess.") and isinstance(first, ast.Constant | ast.JoinedStr):
        found.append(f"{called} of one string")
    if keywords.get("trust_remote_code", "False") != "False":
        found.append("code of a model's folder")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_unsafe(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "yaml.full_load(text)",
        "tar.extractall(folder)",
        "dist.broadcast_object_list(box)",
        "dist.all_gather_object(box, value)",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run('ls x', shell=True)",
        "subprocess.run(f'ls {x}')",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "pandas.read_pickle(path)",
    ],
)
def test_the_scan_sees(line: str) -> None:
    assert faults(line)


@pytest.mark.parametrize("line", ["re.compile(x)", "torch.load(path, weights_only=True)", "yaml.load(text, _Loader)"])
def test_the_scan_lets_pass(line: str) -> None:
    assert not faults(line)
