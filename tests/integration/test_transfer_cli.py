"""`sysadmd transfer` against a real server with two sites."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.servers import running_server
from tests.integration.test_cli_server import sysadmd


async def test_files_are_listed_copied_renamed_and_removed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "data").mkdir(parents=True)
    two.mkdir()
    (one / "data" / "a b").write_text("hello")
    config = f'[sites.1]\nroot = "{one}"\n[sites.2]\nroot = "{two}"\n'
    async with running_server(tmp_path, config=config) as server:

        async def follow(*words: str) -> list[dict[str, object]]:
            done = await sysadmd(server, "transfer", *words, "--follow")
            assert done.code == 0, done.err
            return [json.loads(line) for line in done.out.splitlines()]

        *_, entry = await follow("list", "1:/data")
        assert (str(entry["path"]).endswith("/data/a b"), entry["size"]) == (True, 5)
        await follow("mkdir", "2:/new")
        await follow("copy", "1:/data", "2:/new", "--priority", "3", "--tries", "1")
        assert [path.read_text() for path in two.rglob("a b")] == ["hello"]
        await follow("rename", "2:/new", "2:/newer")
        assert [path.name for path in two.iterdir()] == ["newer"]
        await follow("remove", "1:/data")
        assert list(one.iterdir()) == []
        failed = await sysadmd(server, "transfer", "remove", "1:/data", "--tries", "1", "--follow")
        assert (failed.code, "ended as error" in failed.err) == (1, True)
        nowhere = await sysadmd(server, "transfer", "list", "9:/")
        assert (nowhere.code, "no site 9" in nowhere.err) == (1, True)


async def test_what_is_no_place_is_wrong_usage(tmp_path: Path) -> None:
    for words in (("list", "data"), ("list", "1:"), ("copy", "1:/a"), ("rename", "1:/a", "2:/a")):
        assert (await sysadmd(None, "transfer", *words)).code == 2
