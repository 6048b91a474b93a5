"""The wheel, installed as a user installs it: into an empty environment, with the pins of the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "dorkos"

# One worker builds and installs for all tests here.
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network by the build backend of the lock."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that holds the runtime lock and the wheel, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    # `make test` keeps every locked wheel in its environment, so that this needs no network.
    kept = Path(sys.prefix) / "wheels"
    source = ["--no-index", "--find-links", kept] if kept.is_dir() else []
    # Compiled is then only what a command imports.
    chosen = ("--python", python, "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", *chosen, "install", "-qq", "--no-compile")
    _run(*pip, *source, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=folder)
    # With no index to turn to, this also proves that the lock holds all that the wheel asks for.
    _run(*pip, "--no-index", wheel, cwd=folder)
    return python.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory that does not exist yet."""
    return tmp_path / "data"


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Migrations and every other file under src/dorkos are in the wheel, and nothing of tests or docs is."""
    ours = {
        f"dorkos/{path.relative_to(PACKAGE).as_posix()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert any(name.startswith("dorkos/db/migrations/0000") for name in held)
    assert held == ours


def test_installed_command_says_its_version(commands: Path, wheel: Path, tmp_path: Path) -> None:
    """`dorkos --version` runs and says the version of the wheel."""
    said = _run(commands / "dorkos", "--version", cwd=tmp_path)
    assert wheel.name.split("-")[1] in said


def test_installed_command_migrates(commands: Path, home: Path, tmp_path: Path) -> None:
    """A new data directory is migrated by the migrations of the wheel, and the schema is the declared one."""
    _run(commands / "dorkos", "--home", home, "db", "migrate", cwd=tmp_path)
    assert (home / "dork.db").exists()
    _run(commands / "dorkos", "db", "check", cwd=tmp_path)
    _run(commands / "dorkos", "--home", home, "db", "verify", cwd=tmp_path)


def test_installed_server_starts_and_stops(commands: Path, home: Path, tmp_path: Path) -> None:
    """`dorkos up` says that it is ready, answers, and ends cleanly on SIGTERM."""
    with subprocess.Popen(
        [commands / "dorkos", "--home", home, "up", "--port", "0"],
        cwd=tmp_path,
        env=_environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            url = next(line for line in server.stdout if line.startswith("DorkOS ready on ")).split()[-1]
            assert httpx.get(f"{url}/api/health", timeout=60).status_code == 200
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0


def _run(*command: object, cwd: Path) -> str:
    """What the command printed; a failure shows all of it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=_environment(cwd),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _environment(home: Path) -> dict[str, str]:
    """The surroundings of a new user: nothing of the checkout, of this run, or of another data directory."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DORK", "COVERAGE", "PYTEST"))
    }
    return kept | {"HOME": str(home)}
