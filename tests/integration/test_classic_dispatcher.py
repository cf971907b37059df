"""The dispatcher as the original programs see it (spec sysadm §4.1, §5.3)."""

from __future__ import annotations

from pathlib import Path

from tests.integration.servers import running_server


async def test_a_raw_job_tells_that_it_runs_and_how_it_ended_and_nothing_else(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect(origin="sysadm-client") as peer:
        await peer.send({"namespace": "events", "name": "subscribe", "id": "s", "args": "dispatcher"})
        assert await peer.receive() == {
            "args": {"subscribe": "dispatcher"},
            "id": "s",
            "name": "response",
            "namespace": "events",
        }
        run = {"action": "run", "job": ["echo a", "false"]}
        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": "r", "args": run})
        assert (await peer.reply("r"))["args"] == {"started": ["job"]}
        first = await peer.event(lambda e: True)
        assert first == {
            "args": {"process_id": "job", "state": "running"},
            "id": "",
            "name": "dispatcher",
            "namespace": "events",
        }
        last = (await peer.event(lambda e: True))["args"]
        times = [last.pop("time_started"), last.pop("time_finished")]
        assert all(len(time) == len("2026-11-22T00:37:24") for time in times)
        assert last == {
            "cmd_list": ["echo a", "false"],
            "echo a": "a\n",
            "false": "",
            "process_id": "job",
            "return_codes/echo a": "0",
            "return_codes/false": "1",
            "state": "finished",
        }


async def test_an_id_that_looks_like_a_namespace_s_is_its_user_s_all_the_same(tmp_path: Path) -> None:
    """The originals judge by the id's text; here only what a namespace started is typed."""
    async with running_server(tmp_path) as server, server.connect(origin="sysadm-client") as peer:
        await peer.send({"namespace": "events", "name": "subscribe", "id": "s", "args": "dispatcher"})
        await peer.reply("s")
        run = {"action": "run", "sysadm_pkg_install-{x}": "true"}
        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": "r", "args": run})
        events = [(await peer.event(lambda e: True))["args"] for _ in range(2)]
        assert events[0] == {"process_id": "sysadm_pkg_install-{x}", "state": "running"}
        assert events[1]["state"] == "finished"
        assert "event_system" not in events[1]


async def test_values_that_are_no_jobs_are_skipped_and_the_action_is_matched_in_lower_case(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.connect(origin="sysadm-client") as peer:
        nothing = {"action": "RUN", "x": 7}
        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": "r", "args": nothing})
        assert await peer.reply("r") == {"args": [], "id": "r", "name": "response", "namespace": "rpc"}
        mixed = {"action": "run", "x": 7, "y": "true"}
        await peer.send({"namespace": "rpc", "name": "dispatcher", "id": "m", "args": mixed})
        assert (await peer.reply("m"))["args"] == {"started": ["y"]}
