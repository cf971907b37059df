"""The service files: what systemd says of the units, and what FreeBSD's rc(8) needs to find in the scripts."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RC_D = Path(__file__).resolve().parent.parent.parent / "rc.d"
UNITS = ["sysadmd.service", "sysadmd-executor.service", "sysadmd-bridge.service"]
SCRIPTS = ["sysadmd", "sysadmd_executor", "sysadmd_bridge"]
EXPOSED = {"sysadmd.service": 3.0, "sysadmd-bridge.service": 1.5}
"""Units that listen to strangers, and how exposed systemd may call them, of 10."""


def unit(name: str) -> configparser.ConfigParser:
    # Keys are case-sensitive in units; a key that is given twice keeps its last value here, which no test asks for.
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    parser.read(RC_D / name)
    return parser


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the units were not verified")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    for each in UNITS:
        # verify wants the program to exist; here it is another path than on an installed machine.
        text = (RC_D / each).read_text().replace("/usr/local/bin/sysadmd ", f"{sys.executable} ")
        (tmp_path / each).write_text(text)
    done = systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(tmp_path / name))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", EXPOSED)
def test_a_unit_that_listens_exposes_little(name: str) -> None:
    done = systemd_analyze("security", "--offline=true", "--no-pager", str(RC_D / name))
    found = re.search(rf"Overall exposure level for {re.escape(name)}: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= EXPOSED[name]


@pytest.mark.parametrize("name", EXPOSED)
def test_what_listens_has_no_capability_and_gains_none(name: str) -> None:
    service = unit(name)["Service"]
    assert service["CapabilityBoundingSet"] == ""
    assert service["NoNewPrivileges"] == "yes"


@pytest.mark.parametrize("system", ["linux", "freebsd"])
def test_the_rules_for_pam_ask_for_password_and_account_and_permit_nothing_else(system: str) -> None:
    lines = (RC_D / "pam.d" / f"sysadmd.{system}").read_text().splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    modules = {kind: [rule[2] for rule in rules if rule[0] == kind] for kind in ("auth", "account")}
    assert all("pam_unix.so" in found for found in modules.values())
    # Nothing is sufficient, so no module can let somebody past another one; an empty password opens nothing.
    assert {rule[1] for rule in rules} == {"required"}
    assert not [rule for rule in rules if "nullok" in rule]
    assert [rule[2] for rule in rules if rule[0] in ("password", "session")] == ["pam_deny.so"] * 2


def test_stopping_the_executor_leaves_what_commands_left_behind() -> None:
    assert unit("sysadmd-executor.service")["Service"]["KillMode"] == "process"


def test_one_command_out_of_memory_does_not_stop_the_executor() -> None:
    assert unit("sysadmd-executor.service")["Service"]["OOMPolicy"] == "continue"


def test_a_restarted_executor_does_not_restart_the_server() -> None:
    section = unit("sysadmd.service")["Unit"]
    assert "sysadmd-executor.service" in section["Wants"]
    assert "sysadmd-executor.service" in section["After"]
    assert not {"Requires", "BindsTo", "PartOf"} & set(section)


@pytest.mark.parametrize("name", EXPOSED)
def test_a_bad_configuration_is_not_retried(name: str) -> None:
    assert unit(name)["Service"]["RestartPreventExitStatus"] == "2"


def test_the_server_is_no_root_and_the_executor_takes_orders_from_its_user() -> None:
    server, executor = unit("sysadmd.service")["Service"], unit("sysadmd-executor.service")["Service"]
    assert (server["User"], executor["User"]) == ("sysadmd", "root")
    assert f"--server-user {server['User']} " in executor["ExecStart"]
    assert f"\nu {server['User']} " in (RC_D / "sysadmd.sysusers").read_text()


def test_the_executors_directory_is_its_own_and_the_server_finds_the_socket_there() -> None:
    server, executor = unit("sysadmd.service")["Service"], unit("sysadmd-executor.service")["Service"]
    assert (server["StateDirectory"], server["StateDirectoryMode"]) == ("sysadmd", "0700")
    assert (executor["StateDirectory"], executor["StateDirectoryMode"]) == ("sysadmd-executor", "0711")
    directory = f"/var/lib/{executor['StateDirectory']}"
    assert f"--executor-dir {directory} " in executor["ExecStart"]
    assert f"--executor-socket {directory}/executor.sock " in server["ExecStart"]
    assert f"--state-dir /var/lib/{server['StateDirectory']} " in server["ExecStart"]


def test_the_bridge_is_a_user_of_its_own_in_a_directory_of_its_own() -> None:
    server, bridge = unit("sysadmd.service")["Service"], unit("sysadmd-bridge.service")["Service"]
    assert bridge["User"] == bridge["Group"] == "sysadmd-bridge" != server["User"]
    assert f"\nu {bridge['User']} " in (RC_D / "sysadmd.sysusers").read_text()
    assert (bridge["StateDirectory"], bridge["StateDirectoryMode"]) == ("sysadmd-bridge", "0700")
    assert f"--state-dir /var/lib/{bridge['StateDirectory']} " in bridge["ExecStart"]


def test_the_bridge_needs_neither_server_nor_executor() -> None:
    section = unit("sysadmd-bridge.service")["Unit"]
    assert not re.search(r"sysadmd(-executor)?\.service", " ".join(section.values()))
    required = re.search(r"^# REQUIRE: (.*)$", (RC_D / "sysadmd_bridge").read_text(), re.MULTILINE)
    assert required
    assert "sysadmd" not in required[1]


def test_the_scripts_agree_on_user_and_socket() -> None:
    server, executor = ((RC_D / name).read_text() for name in ("sysadmd", "sysadmd_executor"))
    defaults = dict(re.findall(r"^: \"\$\{(\w+):=(.*)\}\"$", server + executor, re.MULTILINE))
    assert defaults["sysadmd_runas"] == defaults["sysadmd_executor_server"] == "_sysadmd"
    assert defaults["sysadmd_executor_socket"] == f"{defaults['sysadmd_executor_dir']}/executor.sock"
    assert "-u ${sysadmd_runas}" in server
    assert "--executor-socket ${sysadmd_executor_socket}" in server
    assert "--server-user ${sysadmd_executor_server} --executor-dir ${sysadmd_executor_dir}" in executor


def test_the_executors_unit_explains_each_privilege() -> None:
    comments = [line for line in (RC_D / "sysadmd-executor.service").read_text().splitlines() if line.startswith("#")]
    kept = "\n".join(comments)
    for privilege in (
        "all capabilities",
        "NoNewPrivileges",
        "file system",
        "devices",
        "address families",
        "namespaces",
    ):
        assert privilege in kept


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_rc_script_has_its_header(name: str) -> None:
    text = (RC_D / name).read_text()
    assert text.startswith("#!/bin/sh\n")
    assert f"# PROVIDE: {name}\n" in text
    assert re.search(r"^# REQUIRE: ", text, re.MULTILINE)
    assert "# KEYWORD: shutdown\n" in text
    assert text.endswith('run_rc_command "$1"\n')
    assert (RC_D / name).stat().st_mode & 0o111


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_rc_script_documents_every_variable(name: str) -> None:
    text = (RC_D / name).read_text()
    for variable, default in re.findall(r"^: \"\$\{(\w+):=(.*)\}\"$", text, re.MULTILINE):
        assert re.search(rf'^#   {variable}="{re.escape(default)}"', text, re.MULTILINE), variable


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_rc_script_keeps_clear_of_the_names_that_rc_subr_reads(name: str) -> None:
    # ${name}_program replaces the command, ${name}_flags goes to daemon(8) instead of to sysadmd (rc.subr(8)).
    taken = {f"{name}_{suffix}" for suffix in ("program", "flags", "user", "group", "chdir", "nice", "limits", "env")}
    assigned = set(re.findall(r"^: \"\$\{(\w+):=", (RC_D / name).read_text(), re.MULTILINE))
    assert not taken & assigned


def test_the_executor_starts_before_the_server() -> None:
    required = re.search(r"^# REQUIRE: (.*)$", (RC_D / "sysadmd").read_text(), re.MULTILINE)
    assert required
    assert "sysadmd_executor" in required[1].split()


@pytest.mark.parametrize("name,process", [("sysadmd", "server"), ("sysadmd_bridge", "bridge")])
def test_reload_signals_the_process_and_not_its_supervisor(name: str, process: str) -> None:
    text = (RC_D / name).read_text()
    assert f'pid=$(cat "${{{process}_pidfile}}"' in text
    assert re.search(r'kill -HUP "\$\{\w+_pid\}"', text)
    assert f"-p ${{{process}_pidfile}}" in text
