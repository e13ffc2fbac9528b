"""``aiflow doctor`` tries what commits stand on."""

import json
from pathlib import Path

from aiflow_sdk.cli.commands import doctor
from aiflow_sdk.config import Environment
from aiflow_sdk.stores import ObjectStore
from projects import aiflow


def project_on(folder: Path, address: str, storage: dict[str, object]) -> Path:
    options = "\n".join(f"{name} = {json.dumps(value)}" for name, value in storage.items())
    secrets = '[environments.dev.secrets]\nprovider = "file"\npath = "secrets"\n'
    options = options.replace(json.dumps(storage["secret_access_key"]), '"secret://key"')
    (folder / "secrets").mkdir()
    (folder / "secrets" / "key").write_text(str(storage["secret_access_key"]), "utf-8")
    text = f'[environments.dev]\nlake = "{address}"\n[environments.dev.storage]\n{options}\n{secrets}'
    (folder / "aiflow.toml").write_text(text, "utf-8")
    return folder


def test_a_lake_in_a_store_is_tried(make_place, tmp_path):
    # The folder has no pipelines, of which the doctor complains too.
    place = make_place("s3")
    found = aiflow(project_on(tmp_path, place.address, place.storage()), "doctor", "--no-spark", "--json", code=1)
    (lake,) = [one for one in json.loads(found.out.splitlines()[-1]) if one["what"] == "lake"]
    assert lake["state"] == "ok", lake
    assert "conditional puts" in lake["said"]
    assert list(place.files("")) == []


def test_a_store_that_ignores_the_condition_is_found_out(make_place, monkeypatch):
    place = make_place("s3")

    def put_anyway(store: ObjectStore, key: str, data: bytes) -> bool:
        store.put(key, data)  # as a store does that does not know If-None-Match
        return True

    monkeypatch.setattr(ObjectStore, "put_if_absent", put_anyway)
    found = doctor._store(Environment(lake=place.address, storage=place.storage()))
    assert found.state == "fail"
    assert "ignores the condition" in found.said


def test_keys_that_the_store_does_not_know_are_told(make_place, tmp_path):
    place = make_place("s3")
    storage = {**place.storage(), "access_key_id": "AKIAUNKNOWN"}
    found = aiflow(project_on(tmp_path, place.address, storage), "doctor", "--no-spark", "--json", code=1)
    (lake,) = [one for one in json.loads(found.out.splitlines()[-1]) if one["what"] == "lake"]
    assert lake["state"] == "fail"
    assert "does not let these credentials" in str(lake)
