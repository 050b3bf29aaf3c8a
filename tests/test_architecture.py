import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "latente"
# What a module may import at its top: only names to the left of its own, or its own.
LAYERS = [
    "errors", "atomic", "sealed", "parts", "codec", "model", "kinds", "training", "file", "estimator", "uses", "verbs",
    "report", "cli", "web",
]  # fmt: skip
SOURCES = sorted(ROOT.rglob("*.py"))


def module_level_imports(path: Path) -> set[str]:
    """The latente modules that a file imports at its top level."""
    depth = len(path.relative_to(ROOT).parts)
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = path.relative_to(ROOT).parts[: depth - node.level]
            first = (*inside, *(node.module.split(".") if node.module else [a.name for a in node.names]))
            found.add(first[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("latente."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parent != ROOT or p.name not in ("__init__.py", "__main__.py")], ids=str
)
def test_imports_point_down(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in module_level_imports(path) & set(LAYERS):
        assert LAYERS.index(other) <= LAYERS.index(own), f"{own} must not import {other}"


def test_every_room_of_the_house_is_in_the_layers():
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} <= set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_source_loads_code_from_a_file(path):
    calls = {
        ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)
    }
    assert not calls & {"eval", "exec", "torch.load", "pickle.load", "pickle.loads", "joblib.load", "np.load"} - {
        "np.load"
    }
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
            assert "allow_pickle" in {k.arg for k in node.keywords}


def test_the_command_line_loads_no_torch():
    code = "import sys, latente.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_import_is_silent_with_warnings_as_errors():
    done = subprocess.run([sys.executable, "-W", "error", "-c", "import latente"], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""


def fastest(command: list[str], runs: int = 5) -> float:
    """Wall seconds of the fastest of some runs: what the program needs, not what a busy machine adds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def test_help_and_info_answer_in_three_tenths_of_a_second(tmp_path, golden):
    latente = [str(Path(sys.executable).parent / "latente")]
    assert fastest([*latente, "--help"]) < 0.3
    assert fastest([*latente, "info", str(golden)]) < 0.3


def test_info_loads_no_torch(golden):
    code = (
        "import sys\nfrom latente.verbs.info import info\n"
        f"assert info({str(golden)!r})['kind'] == 'table'\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="this machine has an NVIDIA GPU")
def test_no_cuda_package_is_installed_without_a_gpu():
    from importlib.metadata import distributions

    names = {d.metadata["Name"].lower() for d in distributions()}
    assert not {n for n in names if n.startswith(("nvidia-", "triton"))}
    assert "torch" in names


def test_the_pinned_torch_is_the_installed_one():
    import torch

    pin = (ROOT.parents[1] / "constraints.txt").read_text().strip().removeprefix("torch==")
    assert torch.__version__.split("+")[0] == pin
