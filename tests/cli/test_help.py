"""The commands, their help, and the template of a study."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest

from semiclip.__main__ import main

COMMANDS = ["init", "check", "train", "embed", "evaluate", "report", "paper", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"Usage: semiclip {command} [OPTIONS]")
    assert "Show this message" in printed


def test_the_module_is_the_command(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {command} " in listed for command in COMMANDS)
    ran = subprocess.run([sys.executable, "-m", "semiclip", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == version("semiclip")
    failed = subprocess.run([sys.executable, "-m", "semiclip", "check", "gone.toml"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "error: there is no gone.toml; semiclip init writes a template"
    assert "Traceback" not in failed.stderr


def test_the_template_names_every_setting_and_is_never_replaced(tmp_path, fails, monkeypatch):
    from semiclip._cli._settings import KEYS, UNSEEN

    path = tmp_path / "study.toml"
    assert main(["init", str(path)]) == 0
    before = path.read_text(encoding="utf-8")
    document = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = |\[)", "", before))
    for table in ("options", "model", "plan"):
        assert all(document.get(name, {}).get(table, True) for name in ("student", "training"))
    assert set(document.pop("methods")["shared"]) == {"objective", "recipe"}
    assert set(document.pop("unseen")["knockouts"]) == {*UNSEEN}
    assert {f"{table}.{key}" for table, keys in document.items() for key in keys} | {"training.pea"} == {*KEYS}
    path.write_text("mine", encoding="utf-8")
    assert "pass --overwrite" in fails(1, "init", path)
    assert path.read_text(encoding="utf-8") == "mine"
    assert main(["init", str(path), "--overwrite"]) == 0
    assert path.read_text(encoding="utf-8") == before
    monkeypatch.chdir(tmp_path / "..")
    assert main(["init", str(tmp_path / "new" / "study.toml")]) == 0
