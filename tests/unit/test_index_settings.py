"""pip's configuration as read without pip, and what uv is told from it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from buildkit.errors import ConfigError
from buildkit.source.index_settings import IndexSettings, read_index_settings, uv_arguments, uv_environment

Read = Callable[..., IndexSettings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Settings of a machine whose root, home and environment are empty folders."""
    for name in ("root/etc", "home", "env"):
        (tmp_path / name).mkdir(parents=True)

    def reader(environ: Mapping[str, str] | None = None, **options: object) -> IndexSettings:
        return read_index_settings(
            {"HOME": str(tmp_path / "home"), **(environ or {})},
            python_prefix=tmp_path / "env",
            root=tmp_path / "root",
            **options,  # type: ignore[arg-type]
        )

    return reader


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_configured_is_the_default_index(read: Read) -> None:
    settings = read()
    assert settings == IndexSettings()
    assert settings.indexes == ()
    assert uv_arguments(settings) == []
    assert settings.described() == "the default index"


def test_files_override_one_another_in_pips_order(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "root/etc/xdg/pip/pip.conf", "[global]\nindex-url = https://xdg.example/simple\ntimeout = 7\n")
    write(tmp_path / "root/etc/pip.conf", "[global]\nindex-url = https://etc.example/simple\nretries = 1\n")
    assert read().index_url == "https://etc.example/simple"
    write(tmp_path / "home/.pip/pip.conf", "[global]\nindex-url = https://legacy.example/simple\n")
    write(tmp_path / "home/.config/pip/pip.conf", "[global]\nindex_url = https://user.example/simple\n")
    assert read().index_url == "https://user.example/simple"
    write(tmp_path / "env/pip.conf", "[global]\nindex-url = https://site.example/simple\n")
    assert read().index_url == "https://site.example/simple"
    assert (read().timeout, read().retries) == (7.0, 1)
    assert read({"PIP_INDEX_URL": "https://var.example/simple"}).index_url == "https://var.example/simple"


def test_pip_config_file(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "home/.config/pip/pip.conf", "[global]\nindex-url = https://user.example/simple\n")
    write(tmp_path / "root/etc/pip.conf", "[global]\nextra-index-url = https://etc.example/simple\n")
    named = write(tmp_path / "named.conf", "[global]\nproxy = proxy.example:3128\n")
    settings = read({"PIP_CONFIG_FILE": str(named)})
    assert (settings.index_url, settings.proxy) == (None, "proxy.example:3128")  # the user's file is not read then
    assert settings.extra_index_urls == ("https://etc.example/simple",)
    assert read({"PIP_CONFIG_FILE": "/dev/null"}) == IndexSettings()
    assert read({"PIP_CONFIG_FILE": str(tmp_path / "absent")}).index_url == "https://user.example/simple"


def test_install_section_wins_and_empty_values_do_not_count(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "home/.config/pip/pip.conf", "[global]\nindex-url=https://a.example/\n[install]\nno-index = yes\n")
    write(tmp_path / "env/pip.conf", "[global]\nno-index = no\n")
    settings = read({"PIP_INDEX_URL": ""})
    assert settings.no_index is True
    assert settings.index_url == "https://a.example/"
    assert settings.indexes == ()
    assert uv_arguments(settings) == ["--no-index"]


def test_lists_split_and_missing_folders_are_dropped(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path)
    blank = (tmp_path / "a b").as_uri()
    settings = read(
        {
            "PIP_FIND_LINKS": f"wheels /nowhere/at/all file:///nowhere {blank}",
            "PIP_EXTRA_INDEX_URL": f"https://one.example/simple file:///nowhere/simple {blank}",
            "PIP_TRUSTED_HOST": "one.example two.example:8080",
        },
        extra_find_links=[tmp_path],
    )
    assert settings.find_links == (str(tmp_path), str(tmp_path / "wheels"), blank)
    assert settings.extra_index_urls == ("https://one.example/simple", blank)
    assert uv_arguments(settings) == [
        "--index", "https://one.example/simple", "--index", blank, "--index-strategy", "unsafe-best-match",
        "--find-links", str(tmp_path), "--find-links", str(tmp_path / "wheels"), "--find-links", blank,
        "--allow-insecure-host", "one.example", "--allow-insecure-host", "two.example:8080",
    ]  # fmt: skip


def test_uvs_own_settings_are_honoured(read: Read, tmp_path: Path) -> None:
    environ = {
        "UV_INDEX_URL": "https://old.example/simple",
        "UV_DEFAULT_INDEX": "main=https://uv.example/simple",
        "UV_INDEX": "https://a.example/ b=https://b.example/",
        "UV_FIND_LINKS": f"{tmp_path},/nowhere",
        "UV_INSECURE_HOST": "a.example",
    }
    settings = read(environ)
    assert settings.indexes == ("https://uv.example/simple", "https://a.example/", "https://b.example/")
    assert settings.find_links == (str(tmp_path),)
    assert settings.trusted_hosts == ("a.example",)
    assert read({**environ, "PIP_INDEX_URL": "https://pip.example/"}).index_url == "https://pip.example/"
    # What the words already say must not be said twice.
    assert uv_environment(settings, environ)["UV_INDEX"] == ""


def test_credentials_travel_in_variables_only(read: Read) -> None:
    settings = read({"PIP_INDEX_URL": "https://me:s%40crt@index.example/simple"})
    assert uv_arguments(settings)[:2] == ["--default-index", "cudabuild-0=https://index.example/simple"]
    added = uv_environment(settings, {})
    assert (added["UV_INDEX_CUDABUILD_0_USERNAME"], added["UV_INDEX_CUDABUILD_0_PASSWORD"]) == ("me", "s@crt")
    assert "s%40crt" not in settings.described()
    assert settings.fingerprint() == read({"PIP_INDEX_URL": "https://index.example/simple"}).fingerprint()
    links = read({"PIP_FIND_LINKS": "https://me:secret@files.example/a,b"})
    assert "secret" not in " ".join(uv_arguments(links))
    assert uv_environment(links, {})["UV_FIND_LINKS"] == "https://me:secret@files.example/a%2Cb"


def test_fingerprint_follows_what_is_found() -> None:
    one = IndexSettings(index_url="https://a.example/")
    assert one.fingerprint() != IndexSettings().fingerprint()
    assert (
        one.fingerprint()
        == IndexSettings(index_url="https://a.example/", cert="/x", proxy="p", timeout=9).fingerprint()
    )
    assert one.fingerprint() != IndexSettings(index_url="https://a.example/", find_links=("/w",)).fingerprint()
    assert (
        IndexSettings(no_index=True).fingerprint() == IndexSettings(index_url="https://a/", no_index=True).fingerprint()
    )


def test_certificates_proxy_and_timeout_for_uv(read: Read, tmp_path: Path) -> None:
    settings = read(
        {
            "PIP_CERT": "~/ca.pem",
            "PIP_CLIENT_CERT": "/c.pem",
            "PIP_PROXY": "p.example:3128",
            "PIP_DEFAULT_TIMEOUT": "180",
        }
    )
    added = uv_environment(settings, {})
    assert added["SSL_CERT_FILE"] == settings.cert
    assert settings.cert is not None
    assert settings.cert.endswith("/ca.pem")
    assert not settings.cert.startswith("~")
    assert added["SSL_CLIENT_CERT"] == "/c.pem"
    assert added["HTTPS_PROXY"] == "http://p.example:3128"
    assert added["UV_HTTP_TIMEOUT"] == "180"
    assert uv_environment(IndexSettings(cert=str(tmp_path)), {})["SSL_CERT_DIR"] == str(tmp_path)
    assert uv_environment(IndexSettings(), {"SSL_CERT_FILE": "/mine"}) == {}
    assert read({"REQUESTS_CA_BUNDLE": "/bundle.pem"}).cert == "/bundle.pem"


@pytest.mark.parametrize("variable", ["PIP_NO_INDEX", "PIP_TIMEOUT", "PIP_RETRIES"])
def test_values_pip_would_refuse(read: Read, variable: str) -> None:
    with pytest.raises(ConfigError, match=variable.removeprefix("PIP_").lower().replace("_", "-")):
        read({variable: "perhaps"})


def test_a_file_that_does_not_parse_is_named(read: Read, tmp_path: Path) -> None:
    write(tmp_path / "env/pip.conf", "index-url = https://no.section.example/\n")
    with pytest.raises(ConfigError, match=r"pip\.conf does not parse") as caught:
        read()
    assert caught.value.exit_code == 3


def test_uv_takes_the_words(read: Read, tmp_path: Path) -> None:
    """uv itself accepts every option: it resolves nothing, and so asks nobody."""
    from buildkit.build.installer import find_uv

    settings = read(
        {
            "PIP_INDEX_URL": "https://me:pw@index.example/simple",
            "PIP_TRUSTED_HOST": "index.example",
            "PIP_FIND_LINKS": str(tmp_path),
        }
    )
    words = [str(find_uv()), "pip", "compile", "-", "--no-config", "--offline", *uv_arguments(settings)]
    environ = {"PATH": "/usr/bin:/bin", "UV_CACHE_DIR": str(tmp_path / "uv"), **uv_environment(settings, {})}
    done = subprocess.run(words, input=b"", env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
