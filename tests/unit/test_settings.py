"""Settings: one file, CUDABUILD_* variables, options; which wins, and what is refused where."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.cli.settings import Settings, cache_folder, config_file, load_settings, variables
from buildkit.errors import ConfigError, UsageError
from buildkit.progress import Silent


class Listener(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write(home: Path, text: str) -> Path:
    path = home / ".config" / "cudabuild" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(home: Path, text: str = "", **environ: str) -> Settings:
    if text:
        write(home, text)
    return load_settings({"HOME": str(home), **environ}, cwd=home)


def test_nothing_set(home: Path) -> None:
    settings = load(home)
    assert settings == Settings()
    assert cache_folder(settings, {"HOME": "/h"}) == Path("/h/.cache/cudabuild")
    assert cache_folder(settings, {"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/cudabuild")
    assert cache_folder(settings, {"HOME": "/h", "XDG_CACHE_HOME": "c"}) == Path("/h/.cache/cudabuild")


def test_everything_in_the_file(home: Path) -> None:
    settings = load(
        home,
        """
        cache = "~/big/cache"
        memory = "8 GiB"
        jobs = 4
        targets = ["8.6", "12.0+PTX"]
        torch = "2.13.0+cu130"
        recipes = "mine"
        timeout = "30 min"
        defer = "off"
        pass-env = ["CFLAGS", "NAME=a value"]
        toolkit-archives = "http://10.0.0.1:8000"
        server = "https://build.example/"
        store = "shared"
        trusted-keys = ["ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
        tokens = "who.json"
        upload-names = ["one", "other"]
        """,
    )
    assert settings.model_dump() == {
        "cache": home / "big/cache",
        "memory": 8 << 30,
        "jobs": 4,
        "targets": ("8.6", "12.0+PTX"),
        "torch": "2.13.0+cu130",
        "recipes": home / ".config/cudabuild/mine",
        "timeout": 1800,
        "defer": False,
        "pass_env": ("CFLAGS", "NAME=a value"),
        "toolkit_archives": "http://10.0.0.1:8000",
        "server": "https://build.example",
        "store": str(home / ".config/cudabuild/shared"),
        "trusted_keys": (f"ed25519:{'A' * 43}=",),
        "tokens": home / ".config/cudabuild/who.json",
        "upload_names": ("one", "other"),
    }


def test_everything_in_variables(home: Path) -> None:
    environ = {
        "CUDABUILD_CACHE": "relative",
        "CUDABUILD_MEMORY": "8GiB",
        "CUDABUILD_JOBS": "4",
        "CUDABUILD_TARGETS": "8.6;12.0+PTX",
        "CUDABUILD_TORCH": " active ",
        "CUDABUILD_RECIPES": "/r",
        "CUDABUILD_TIMEOUT": "1h30m",
        "CUDABUILD_DEFER": "on",
        "CUDABUILD_TOOLKIT_ARCHIVES": "https://mirror.example/cuda/redist/",
        "CUDABUILD_SERVER": "http://127.0.0.1:8080",
        "CUDABUILD_PASS_ENV": "CFLAGS, LDFLAGS CXXFLAGS",
        "CUDABUILD_STORE": "https://cache.example/prefix",
        "CUDABUILD_TRUSTED_KEYS": f"ed25519:{'A' * 43}= ed25519:{'B' * 43}=",
        "CUDABUILD_TOKENS": "~/who.json",
        "CUDABUILD_UPLOAD_NAMES": "one, other",
    }
    settings = load(home, **environ)
    assert settings.model_dump() == {
        "cache": home / "relative",
        "memory": 8 << 30,
        "jobs": 4,
        "targets": ("8.6;12.0+PTX",),
        "torch": "active",
        "recipes": Path("/r"),
        "timeout": 5400,
        "defer": True,
        "pass_env": ("CFLAGS", "LDFLAGS", "CXXFLAGS"),
        "toolkit_archives": "https://mirror.example/cuda/redist",
        "server": "http://127.0.0.1:8080",
        "store": "https://cache.example/prefix",
        "trusted_keys": (f"ed25519:{'A' * 43}=", f"ed25519:{'B' * 43}="),
        "tokens": home / "who.json",
        "upload_names": ("one", "other"),
    }
    assert set(variables()) >= {"CUDABUILD_CONFIG", "CUDABUILD_CACHE", "CUDABUILD_PASS_ENV"}


def test_option_over_variable_over_file(home: Path) -> None:
    write(home, 'jobs = 1\nmemory = "1 GiB"\ntimeout = "1 min"\ntargets = "8.6"\n')
    environ = {"HOME": str(home), "CUDABUILD_JOBS": "2", "CUDABUILD_MEMORY": "2 GiB", "CUDABUILD_TARGETS": ""}
    options = {"jobs": 3, "memory": None, "timeout": None, "targets": (), "cache": Path("c")}
    settings = load_settings(environ, options=options, cwd=home)
    assert (settings.jobs, settings.memory, settings.timeout) == (3, 2 << 30, 60)
    assert settings.targets == ("8.6",)
    assert settings.cache == home / "c"


def test_where_the_file_is(home: Path) -> None:
    assert config_file({"HOME": "/h"}) == Path("/h/.config/cudabuild/config.toml")
    assert config_file({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path("/x/cudabuild/config.toml")
    (home / "my.toml").write_text("jobs = 7", encoding="utf-8")
    assert load(home, CUDABUILD_CONFIG="my.toml").jobs == 7
    with pytest.raises(ConfigError, match=r"other\.toml: there is no such file"):
        load(home, CUDABUILD_CONFIG="other.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(home, CUDABUILD_CONFIG=str(home))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jbos = 1", r"config\.toml: jbos: there is no such setting; did you mean 'jobs'\?"),
        ("pass_env = []", r"config\.toml: pass_env: there is no such setting; did you mean 'pass-env'\?"),
        ("jobs = 0", r"config\.toml: jobs: .*greater than 0 \(it is 0\)"),
        ("jobs = true", r"config\.toml: jobs: .*integer \(it is True\)"),
        ("jobs = [1]", r"config\.toml: jobs: .*integer"),
        ("memory = 8", r"config\.toml: memory: '8' is not a size"),
        ('memory = "lots"', r"config\.toml: memory: 'lots' is not a size"),
        ("timeout = 1.5", r"config\.toml: timeout: '1\.5' is not a duration"),
        ("targets = [8.6]", r"config\.toml: targets: .*string \(it is 8\.6\)"),
        ("torch = 2.13", r"config\.toml: torch: .*string"),
        ('pass-env = ["A B"]', r"config\.toml: pass-env: .*\(it is 'A B'\)"),
        ('trusted-keys = ["ed25519:short"]', r"config\.toml: trusted-keys: "),
        ("jobs = 1\nmemory = = 2", r"config\.toml: not valid TOML: .*line 2, column 10"),
    ],
)
def test_mistakes_in_the_file_are_located(home: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(home, text)
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_file_that_is_not_text(home: Path) -> None:
    write(home, "").write_bytes(b"jobs = \xff")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(home)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CUDABUILD_JOBS", "two", "CUDABUILD_JOBS: .*'two'"),
        ("CUDABUILD_JOBS", "-1", "CUDABUILD_JOBS: .*'-1'"),
        ("CUDABUILD_JOBS", "9" * 18, "CUDABUILD_JOBS: .*less than or equal to 100000"),
        ("CUDABUILD_MEMORY", "8", "CUDABUILD_MEMORY: '8' is not a size"),
        ("CUDABUILD_MEMORY", "999999TiB", "CUDABUILD_MEMORY: '999999TiB' is more memory than any machine has"),
        ("CUDABUILD_TIMEOUT", "soon", "CUDABUILD_TIMEOUT: 'soon' is not a duration"),
        ("CUDABUILD_PASS_ENV", "A-B", "CUDABUILD_PASS_ENV: .*'A-B'"),
        ("CUDABUILD_TOOLKIT_ARCHIVES", "/srv/cuda", "CUDABUILD_TOOLKIT_ARCHIVES: write an address such as https:"),
        ("CUDABUILD_TOOLKIT_ARCHIVES", "https://", "CUDABUILD_TOOLKIT_ARCHIVES: write an address such as https:"),
    ],
)
def test_mistakes_in_variables_are_located(home: Path, variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(home, **{variable: value})


def test_a_mistake_in_an_option_is_a_usage_error(home: Path) -> None:
    for options, message in (({"memory": "8"}, "--memory: '8'"), ({"targets": [8]}, "--target: ")):
        with pytest.raises(UsageError, match=message):
            load_settings({"HOME": str(home)}, options=options, cwd=home)


def test_unknown_variables_are_warned_about(home: Path) -> None:
    listener = Listener()
    environ = {"HOME": str(home), "CUDABUILD_MEMROY": "8GiB", "CUDABUILD_CONFIG": "", "CUDA_HOME": "/x"}
    load_settings(environ, cwd=home, reporter=listener)
    assert listener.warnings == ["CUDABUILD_MEMROY is not a variable of cudabuild; did you mean CUDABUILD_MEMORY?"]


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigError, match="no home folder"):
        load_settings({}, cwd=tmp_path)
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "CUDABUILD_CACHE": "/c"}
    assert cache_folder(load_settings(environ, cwd=tmp_path), environ) == Path("/c")
