"""The file with a service's settings: one reader, and every mistake said with its place."""

import pytest

from aiflow_sdk.errors import ConfigurationError
from aiflow_service.app.file import SettingsFile, read_settings_file
from aiflow_service.keeping import FOR_EVER


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "[sign_in]"),
        ("[sign_in\n", "cannot be read"),
        ('[sign_in]\nissuer = "https://x.com"', "sign_in: issuer and client_id go together"),
        ('[sign_in]\nissuer = "http://x.com"\nclient_id = "a"', "sign_in.issuer: http://x.com is neither https"),
        ('[sign_in]\naddress = "ftp://x.com"', "sign_in.address: ftp://x.com is neither https"),
        ('[sign_in]\nisuer = "https://x.com"', "sign_in.isuer: there is no such setting; did you mean 'issuer'?"),
        ('[sign_in.groups]\neng = "growth:king"', "TEAM:ROLE"),
        ('[sign_in]\nadmins = "ana"', "sign_in.admins"),
        ("[other]\na = 1", "other: there is no such setting; [sign_in]"),
        ("[reten]\nevents_days = 3", "reten: there is no such setting; did you mean 'retention'?"),
        ("sign_in = 3", "sign_in"),
        ("[retention]\nevents_days = 0", "retention.events_days"),
        ("[retention]\nevents_days = 'x'", "retention.events_days"),
        ("[retention]\nevents_days = '90 dayz'", "retention.events_days"),
        ("[retention]\nevents_days = '90'", "retention.events_days"),
        ("[retention]\nevents_days = true", "retention.events_days"),
        ("[retention]\nevents_days = 1.0", "retention.events_days"),
        ("[retention]\nevent_days = 3", "retention.event_days: there is no such setting; did you mean 'events_days'?"),
        ("retention = 3", "retention"),
        ("[retention.teams]\ngrowth = 3", "retention.teams.growth"),
        ("[retention.teams.growth]\nevents_days = -1", "retention.teams.growth.events_days"),
        ("[retention.teams.growth]\nrun_days = 1", "did you mean 'runs_days'?"),
    ],
)
def test_settings_that_are_wrong_are_told(tmp_path, text: str, why: str) -> None:
    file = tmp_path / "service.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_settings_file(file)
    assert caught.value.code == "service-settings"
    assert why in str(caught.value)


def test_one_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_settings_file(tmp_path / "none.toml")


def test_two_lines_suffice(tmp_path) -> None:
    file = tmp_path / "service.toml"
    file.write_text('[sign_in]\nissuer = "https://login.company.com"\nclient_id = "aiflow"\n', "utf-8")
    found = read_settings_file(file)
    assert (found.sign_in.groups_claim, found.retention) == ("groups", FOR_EVER)


def test_each_table_may_stand_alone_and_without_a_file_nothing_is_said(tmp_path) -> None:
    file = tmp_path / "service.toml"
    file.write_text("[retention]\nevents_days = 9\n\n[retention.teams.growth]\nruns_days = 3\n", "utf-8")
    found = read_settings_file(file)
    assert (found.sign_in, found.retention.events_days) == (None, 9)
    assert found.retention.of_team("growth").model_dump() == {"events_days": 9, "runs_days": 3}
    assert found.retention.of_team("other").model_dump() == {"events_days": 9, "runs_days": None}
    assert read_settings_file(None) == SettingsFile()
