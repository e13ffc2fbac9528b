"""``aiflow audit``: listed, exported, and verified by the service, from here, and with nobody asked."""

import json

import pytest

from aiflow_sdk.cli import main
from service_trial import Service, unique


@pytest.fixture
def folder(service: Service, tmp_path):
    (tmp_path / "aiflow.toml").write_text(f'[environments.dev]\nservice = "{service.address}"\n')
    return tmp_path


def test_what_was_done_is_listed_exported_and_verified(service: Service, folder, capsys) -> None:
    host = unique("evil") + ".example"
    assert service.request("GET", "/", headers={"Host": host}).status == 403

    def aiflow(*words: str) -> tuple[int, str]:
        code = main(["-C", str(folder), "audit", *words])
        return code, capsys.readouterr().out

    code, said = aiflow("list", "--object", host)
    assert code == 0
    assert "request.denied" in said
    assert "stranger" in said
    assert json.loads(aiflow("list", "--object", host, "--json")[1])[0]["details"] == {"method": "GET", "path": "/"}
    assert aiflow("list", "--actor", "nobody") == (0, "nothing was recorded that fits\n")
    code, said = aiflow("verify")
    assert code == 0
    assert said.startswith("sound")

    file = folder / "audit.jsonl"
    place = service.get("/api/v1/audit/checkpoints")["address"]
    assert aiflow("export", str(file))[0] == 0
    assert aiflow("export", "-")[1] == file.read_text()
    before = file.read_text()
    assert main(["-C", str(folder), "audit", "export", str(file)]) == 2
    assert "is there already; add --force" in capsys.readouterr().err
    assert file.read_text() == before
    assert aiflow("export", str(file), "--force")[0] == 0
    assert list(folder.glob(".audit*")) == []
    checked = ("verify", "--checkpoints", place)
    assert aiflow(*checked)[0] == 0
    for elsewhere in (
        ("verify", "--checkpoints", f"{folder}/typo"),
        ("verify", "--checkpoints", f"{folder}/typo", "--file", str(file)),
    ):
        code, said = aiflow(*elsewhere)
        assert (code, f"there is neither a checkpoint nor a key at {folder}/typo" in said) == (1, True)
    code, said = aiflow(*checked, "--file", str(file), "--json")
    assert (code, json.loads(said)["is_sound"]) == (0, True)

    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines).replace('"stranger"', '"somebody"'))
    code, said = aiflow("verify", "--file", str(file))
    assert code == 1
    assert "is not what was recorded" in said
    file.write_text("".join(lines[1:]))
    assert "row 1 is gone" in aiflow("verify", "--file", str(file))[1]
    assert aiflow("verify", "--file", str(file), "--partial")[0] == 0
    for text in ("nothing\n", '{"seq": 1}\n', lines[0].replace(":", ": ", 1), "\n"):
        file.write_text(text)
        assert main(["-C", str(folder), "audit", "verify", "--file", str(file)]) == 1
        assert "audit-line" in capsys.readouterr().err
    file.write_bytes(lines[0].replace("service", "\xff", 1).encode("latin-1"))
    assert main(["-C", str(folder), "audit", "verify", "--file", str(file)]) == 1
    assert "audit-line" in capsys.readouterr().err
    assert main(["-C", str(folder), "audit", "verify", "--file", str(folder / "none")]) == 2
    assert main(["-C", str(folder), "audit", "verify", "--key", "x.pem"]) == 2
    assert main(["-C", str(folder), "audit", "verify", "--checkpoints", place, "--key", str(file)]) == 1
    assert "audit-key" in capsys.readouterr().err
    assert main(["-C", str(folder), "audit", "verify", "--checkpoints", place, "--key", str(folder / "no.pem")]) == 1
    assert "no.pem cannot be read: No such file or directory" in capsys.readouterr().err


def test_without_a_service_it_is_said_what_to_do(tmp_path, capsys) -> None:
    (tmp_path / "aiflow.toml").write_text("")
    assert main(["-C", str(tmp_path), "audit"]) == 1
    assert "no-service" in capsys.readouterr().err
