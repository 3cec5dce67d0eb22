"""Each of a profile's `[[sources]]` gets its own names, and the first source keeps its names."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.environment.settings import ROOT, Settings, load, of_each_source, of_source
from app.environment.toml_files import SettingsError
from app.services.instances import with_instances
from app.services.service import load_services

ERP = '[[sources]]\nname = "erp"\ndsn = "postgresql://me:pw@erp.example.com/erp"\n'


def with_profile(folder: Path, text: str) -> Settings:
    profile = folder / "profile.toml"
    profile.write_text(text)
    return load(folder / "home", profile)


def test_a_further_source_shares_no_name_with_the_first(tmp_path: Path) -> None:
    first, erp = of_each_source(with_profile(tmp_path, ERP))
    for one in ("slot_name", "publication_name", "capture_role", "topic_prefix"):
        assert getattr(erp.profile, one) == f"{getattr(first.profile, one)}_erp"
    assert (first.connector, erp.connector) == ("source", "source_erp")
    assert (first.silver_schema, erp.silver_schema) == ("silver", "silver_erp")
    assert (first.store.lake_folder, erp.store.lake_folder) == ("", "sources/erp")
    assert first.secret("capture_password") not in erp.capture_dsn


def test_a_service_without_the_right_to_capture_gets_the_password_of_no_source(
    tmp_path: Path,
) -> None:
    settings = with_profile(tmp_path, ERP)
    variable = "HEADWATER_CAPTURE_PASSWORD_ERP"
    assert variable in settings.environment(["capture"])
    assert variable not in settings.environment([])


def test_capture_silver_and_connectors_run_once_for_each_source(tmp_path: Path) -> None:
    described = load_services(ROOT)
    services = with_instances(described, with_profile(tmp_path, ERP).profile)
    more = services.keys() - with_instances(described, load(tmp_path / "other").profile).keys()
    assert more == {"connectors-erp", "capture-erp", "silver-erp"}
    assert "connectors-erp" in services["silver-erp"].depends_on
    assert "connectors" in services["silver"].depends_on


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ERP + ERP, "several sources are named erp"),
        ('[[sources]]\nname = "erp"\n', "source `erp` needs one of dsn, dsn_file"),
        (ERP.replace('"erp"', '"ERP"'), "name"),
        (f'slot_name = "{"a" * 45}"\n' + ERP, "too long together for a slot"),
        (ERP + 'dsn_flie = "x"\n', "dsn_flie"),
    ],
)
def test_a_mistake_in_a_source_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        with_profile(tmp_path, text)
    assert said in str(caught.value)


def test_a_source_that_the_home_does_not_have_is_named_beside_those_it_has(tmp_path: Path) -> None:
    settings = with_profile(tmp_path, ERP)
    with pytest.raises(SettingsError, match=r"there is no source `crm`\nhint: .*: erp"):
        of_source(settings, "crm")


def test_an_address_in_a_file_that_is_not_there_is_told_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "erp.dsn"
    settings = with_profile(tmp_path, f'[[sources]]\nname = "erp"\ndsn_file = "{file}"\n')
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        of_source(settings, "erp")


def test_the_sources_are_kept_for_later_commands_and_an_empty_list_removes_them(
    tmp_path: Path,
) -> None:
    with_profile(tmp_path, ERP).save()
    assert [one.name for one in load(tmp_path / "home").profile.sources] == ["erp"]
    with_profile(tmp_path, "sources = []\n").save()
    assert load(tmp_path / "home").profile.sources == ()
