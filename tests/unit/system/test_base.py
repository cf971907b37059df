from __future__ import annotations

import os
import subprocess

import pytest

from sysadmd.system.base import this_system


@pytest.mark.parametrize(
    "platform, name", [("linux", "linux"), ("freebsd14", "freebsd"), ("freebsd15", "freebsd"), ("openbsd7", "posix")]
)
def test_the_platform_chooses_the_system(platform: str, name: str) -> None:
    assert this_system(platform).name == name


@pytest.mark.parametrize("platform", ["linux", "freebsd14"])
def test_the_host_name_is_the_node_name(platform: str) -> None:
    assert this_system(platform).hostname() == os.uname().nodename


def test_the_host_name_is_what_the_command_prints() -> None:
    printed = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout
    assert this_system().hostname() == printed.strip()
