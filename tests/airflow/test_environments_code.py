"""A project's wheel is unpacked once, whole, and never outside of its folder."""

import io
import multiprocessing
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest
from aiflow_airflow.code import UserCode
from aiflow_airflow.folders import Artifact

from aiflow_sdk.errors import AiflowError
from harness.disks import small_disk


def wheel(files: dict[str, str], modes: dict[str, int] | None = None) -> Artifact:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name, text in files.items():
            member = ZipInfo(name)
            member.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(member, text)
    return Artifact.of("shop-1.0-py3-none-any.whl", content.getvalue())


SHOP = wheel(
    {
        "etl_jobs/__init__.py": "",
        "etl_jobs/clean.py": "def main(): return 42\n",
        "aiflow.toml": "",
        "bin/tool": "#!/bin/sh\n",
    },
    {"bin/tool": stat.S_IFREG | 0o755},
)


def all_below(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if "__pycache__" not in path.parts)


def unpack_into(home: Path) -> str:
    return str(UserCode(home).folder_of(SHOP))


def test_the_folder_holds_what_the_wheel_does_and_is_imported_from(tmp_path):
    folder = UserCode(tmp_path).folder_of(SHOP)
    assert all_below(folder) == ["aiflow.toml", "bin/tool", "etl_jobs/__init__.py", "etl_jobs/clean.py"]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import etl_jobs.clean as it; print(it.main())"
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "42"
    assert os.access(folder / "bin" / "tool", os.X_OK)
    assert not os.access(folder / "aiflow.toml", os.X_OK)


def test_a_second_look_reads_no_wheel(tmp_path):
    def unread() -> bytes:
        raise AssertionError("nobody needs the content")

    folder = UserCode(tmp_path).folder_of(SHOP)
    assert UserCode(tmp_path).folder_of(Artifact("other name.whl", SHOP.sha, unread)) == folder


def test_a_wheel_may_lie_in_a_file(tmp_path):
    (tmp_path / "x.whl").write_bytes(SHOP.read())
    folder = UserCode(tmp_path / "home").folder_of(Artifact("x.whl", SHOP.sha, tmp_path / "x.whl"))
    assert (folder / "aiflow.toml").exists()


def test_eight_processes_at_once_get_one_folder(tmp_path):
    with multiprocessing.get_context("forkserver").Pool(8) as pool:
        found = set(pool.map(unpack_into, [tmp_path] * 16))
    assert len(found) == 1
    assert len(all_below(Path(found.pop()))) == 4
    assert sorted(os.listdir(tmp_path / "code")) == [SHOP.sha[:32], f"{SHOP.sha[:32]}.lock"]


@pytest.mark.parametrize(
    "name", ["../out.py", "/tmp/out.py", "a/../../out.py", "a/./b.py", "a//b.py", "..\\out.py", ".."]
)
def test_what_would_lie_outside_is_refused(tmp_path, name):
    with pytest.raises(AiflowError) as caught:
        UserCode(tmp_path / "home").folder_of(wheel({"good.py": "", name: "evil"}))
    assert (caught.value.code, caught.value.retryable) == ("broken-wheel", False)
    assert [one for one in all_below(tmp_path) if one.endswith(".py")] == []
    assert not Path("/tmp/out.py").exists()


def test_links_are_refused(tmp_path):
    evil = wheel({"link": "/etc", "link/passwd": "evil"}, {"link": stat.S_IFLNK | 0o777})
    with pytest.raises(AiflowError, match="a link") as caught:
        UserCode(tmp_path).folder_of(evil)
    assert caught.value.code == "broken-wheel"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(tmp_path):
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        archive.writestr("x.py", "1")
        archive.writestr("x.py", "2")
    for twice in (Artifact.of("x.whl", content.getvalue()), wheel({"x": "", "x/y": ""})):
        with pytest.raises(AiflowError, match="twice") as caught:
            UserCode(tmp_path).folder_of(twice)
        assert caught.value.code == "broken-wheel"


def test_what_is_no_wheel_or_half_of_one_is_refused(tmp_path):
    whole = SHOP.read()
    flipped = bytearray(wheel({"x.py": "a = 1\n" * 100}).read())
    flipped[60] ^= 1
    for content in (b"", b"no zip", whole[: len(whole) // 2], bytes(flipped)):
        with pytest.raises(AiflowError) as caught:
            UserCode(tmp_path).folder_of(Artifact.of("x.whl", content))
        assert caught.value.code == "broken-wheel"


def test_content_of_another_sha_is_refused_and_tried_again(tmp_path):
    with pytest.raises(AiflowError) as caught:
        UserCode(tmp_path).folder_of(Artifact("x.whl", "0" * 64, SHOP.content))
    assert (caught.value.code, caught.value.retryable) == ("damaged-download", True)


def test_a_full_disk_leaves_no_half(tmp_path):
    home = tmp_path / "disk"
    with small_disk(home, 64 << 10):
        with pytest.raises(AiflowError) as caught:
            UserCode(home).folder_of(wheel({"small.py": "", "large.py": "#" * 100_000}))
        assert (caught.value.code, caught.value.retryable) == ("home-not-writable", True)
        assert [one for one in all_below(home) if one.endswith(".py")] == []


def test_code_in_use_stays_and_old_code_goes(tmp_path):
    code = UserCode(tmp_path)
    then = time.time() - 40 * 86_400
    with code.in_use(SHOP) as folder:
        os.utime(folder.parent / "used", (then, then))
        assert code.collect(30) == []
    assert code.collect(30) == []
    os.utime(folder.parent / "used", (then, then))
    assert code.collect(30) == [SHOP.sha[:32]]
    assert os.listdir(tmp_path / "code") == []


WRITE = """
import os, pathlib, sys
from aiflow_airflow.code import UserCode
from test_environments_code import SHOP
home, what = pathlib.Path(sys.argv[1]), sys.argv[2]
folder = UserCode(home).folder_of(SHOP)
if what == "collect":
    os.utime(folder.parent / "used", (0, 0))
    print(UserCode(home).collect(30) == [SHOP.sha[:32]], os.listdir(home / "code"))
    sys.exit()
for change in (
    lambda: (folder / "etl_jobs" / "clean.py").write_text("def main(): return 13"),
    lambda: (folder / "etl_jobs" / "new.py").touch(),
    lambda: (folder / "json.py").touch(),
    lambda: (folder / "etl_jobs" / "clean.py").unlink(),
):
    try:
        change()
        print("changed")
    except PermissionError:
        print("refused")
"""


def by_anybody(home: Path, what: str) -> str:
    """Return what the program above says where it has not root's power to write what nobody may."""
    command = [sys.executable, "-c", WRITE, str(home), what]
    if os.getuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    here = Path(__file__).parent
    variables = {**os.environ, "PYTHONPATH": f"{here}:{here.parent / 'lib'}"}
    return subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True, check=True).stdout.strip()


def test_a_task_cannot_change_what_the_next_one_imports(tmp_path):
    assert by_anybody(tmp_path, "write").split() == ["refused"] * 4


def test_what_may_not_be_written_is_collected(tmp_path):
    assert by_anybody(tmp_path, "collect") == "True []"


def test_what_is_unpacked_is_compiled_because_no_task_could_keep_it(tmp_path):
    folder = UserCode(tmp_path).folder_of(SHOP)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import etl_jobs.clean as it; print(it.main.__code__.co_filename)"
    )
    done = subprocess.run([sys.executable, "-v", "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder / "etl_jobs" / "clean.py")
    assert [line for line in done.stderr.splitlines() if "matches" in line and "clean.py" in line]
    assert not [line for line in done.stderr.splitlines() if line.startswith("# wrote") and "clean" in line]
