"""``cudabuild docker``: what is decided, what is refused, and texts that the tools of this trade accept."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_pydantic.models import ComposeSpecification
from images import IMAGES, make_wheel, put_wheel, write_recipe
from index_wheels import publish
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from buildkit.build.places import Places
from buildkit.cli.main import main
from buildkit.docker import image_steps
from buildkit.docker.choice import Variant, parse_variant
from buildkit.docker.lines import apt_install, comment, run
from buildkit.docker.model import Image
from buildkit.docker.requirements import read_requirements
from buildkit.docker.sources import is_loopback, trusted_host
from buildkit.docker.texts import texts
from buildkit.errors import CudabuildError, DependencyConflict, NoSuchBuild, UsageError
from buildkit.machine.arch import Target, parse_targets
from buildkit.store.store import Store

pytestmark = pytest.mark.usefixtures("empty_machine")

WHEEL = "diso-0.1.4+pt2.13.cu130.sm86.sm89-cp311-cp311-manylinux_2_34_x86_64.whl"
SCATTER = "torch_scatter-2.1.2+pt2.13.cu130-cp311-cp311-linux_x86_64.whl"
DECLARED = "7.5;8.0;8.6;9.0;10.0;12.0+PTX"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with diso for 8.6 and 8.9."""
    found = Store(Places(tmp_path / "cache").store)
    put_wheel(found, make_wheel(tmp_path / "made", WHEEL), "diso", targets=["8.6", "8.9"])
    return found


def put(store: Store, folder: Path, filename: str, recipe: str, targets: str, **more: str) -> None:
    listed = [str(target) for target in parse_targets([targets])] if targets else []
    put_wheel(store, make_wheel(folder / "made", filename), recipe, targets=listed, **more)


def docker(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The answer in JSON."""
    assert main(["docker", *words, "--json"]) == 0, capsys.readouterr().err
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str, str]:
    """Exit code, kind, message with evidence, hint."""
    code = main(["docker", *words, "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    return code, error["kind"], f"{error['message']} {error['evidence']}", error["hint"]


def file_of(answer: dict[str, Any], path: str) -> str:
    return next(str(file["text"]) for file in answer["files"] if file["path"] == path)


@pytest.mark.usefixtures("store")
class TestWheelhouse:
    def test_everything_is_written_beside_each_other(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        answer = docker(capsys, "diso", "--target", "8.6;8.9", "--out", "image")
        names = {str(path.relative_to("image")) for path in Path("image").rglob("*") if path.is_file()}
        assert names == {
            "Dockerfile",
            ".dockerignore",
            "image_steps.py",
            "wheelhouse/wheels.txt",
            f"wheelhouse/{WHEEL}",
        }
        assert (Path("image/wheelhouse") / WHEEL).read_bytes() == (tmp_path / "made" / WHEEL).read_bytes()
        assert answer["variant"] == "pt2.13-cu130-sm86-sm89"
        assert (answer["torch"], answer["python"], answer["device"]) == ("2.13.0+cu130", "3.11", "cuda")
        assert [wheel["path"] for wheel in answer["wheels"]] == [f"wheelhouse/{WHEEL}"]
        assert any("non-commercial" in note for note in answer["notes"])

    def test_a_wheel_is_taken_by_its_hash_only(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = docker(capsys, "diso", "--target", "8.9")
        listed = file_of(answer, "wheelhouse/wheels.txt").splitlines()[-1]
        assert listed == f"diso @ file:///wheelhouse/{WHEEL.replace('+', '%2B')}#sha256={answer['wheels'][0]['sha256']}"

    def test_the_dockerfile_is_printed_by_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["docker", "diso", "--target", "8.6"]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith("# syntax=docker/dockerfile:1\n")
        assert "--out DIR writes everything" in shown.err

    def test_steps_stand_in_the_order_that_keeps_what_was_compiled(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("requirements.txt").write_text("numpy\n", encoding="utf-8")
        text = file_of(docker(capsys, "diso", "--target", "8.6", "--requirements", "requirements.txt"), "Dockerfile")
        steps = [
            "--upgrade 'pip>=24' 'setuptools",
            "--report /resolution/report.json",
            "--requirement /requirements/requirements.txt --requirement /wheelhouse/wheels.txt torch==2.13.0",
            "--no-deps --requirement /resolution/others.txt",
            "ENV PIP_CONSTRAINT=/opt/venv/constraints.txt",
            "--no-deps --no-index --requirement /wheelhouse/wheels.txt",
            "python -m pip check",
            "check --torch 2.13.0+cu130 diso diso._C",
        ]
        places = [text.index(step) for step in steps]
        assert places == sorted(places)
        assert 'TORCH_CUDA_ARCH_LIST="8.6"' in text

    def test_the_narrowest_wheel_that_suffices_is_taken_and_the_newest_of_equals(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wide = "diso-0.1.4+pt2.13.cu130-cp311-cp311-linux_x86_64.whl"
        put(store, tmp_path, wide, "diso", DECLARED)
        newer = WHEEL.replace("cp311-cp311-manylinux_2_34", "cp311-cp311-manylinux_2_28")
        put(store, tmp_path, newer, "diso", "8.6;8.9", created="2026-11-21T11:00:00.000000Z")
        assert docker(capsys, "diso", "--target", "8.6")["wheels"][0]["path"] == f"wheelhouse/{newer}"
        plain = docker(capsys, "diso", "--variant", "pt2.13-cu130")
        assert plain["wheels"][0]["path"] == f"wheelhouse/{wide}"
        assert (plain["variant"], plain["targets"]) == ("pt2.13-cu130", DECLARED.split(";"))

    def test_all_wheels_are_for_one_torch_and_one_python(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(store, tmp_path, SCATTER.replace("cp311", "cp312"), "torch-scatter", "8.6",
            created="2026-11-22T00:00:00.000000Z")  # fmt: skip
        put(store, tmp_path, SCATTER.replace("2.13", "2.12"), "torch-scatter", "8.6", torch="2.12.0+cu130",
            created="2026-11-22T01:00:00.000000Z")  # fmt: skip
        code, kind, message, hint = refused(capsys, "diso", "torch-scatter", "--target", "8.6")
        assert (code, kind) == (NoSuchBuild.exit_code, "no-such-build")
        assert "one torch and one Python" in message
        assert "cudabuild diso torch-scatter --target '8.6'" in hint
        put(store, tmp_path, SCATTER, "torch-scatter", DECLARED)
        answer = docker(capsys, "diso", "torch-scatter", "--target", "8.6")
        assert [wheel["path"] for wheel in answer["wheels"]] == [f"wheelhouse/{WHEEL}", f"wheelhouse/{SCATTER}"]

    def test_a_wheel_for_other_targets_or_another_python_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        for words in (
            ["--target", "12.0"],
            ["--target", "8.6", "--python", "3.12"],
            ["--variant", "pt2.12-cu130-sm86"],
        ):
            code, kind, message, _ = refused(capsys, "diso", *words)
            assert (code, kind) == (10, "no-such-build")
            assert f"{WHEEL} (8.6;8.9)" in message

    def test_a_newer_c_library_is_found_in_a_newer_debian(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert docker(capsys, "diso", "--target", "8.6")["base"] == "python:3.11-slim-bookworm"
        put(store, tmp_path, "diso-0.1.4+pt2.13.cu130.sm120-cp312-cp312-manylinux_2_39_x86_64.whl", "diso", "12.0")
        assert docker(capsys, "diso", "--target", "12.0")["base"] == "python:3.12-slim-trixie"

    def test_a_name_that_is_typed_twice_is_one_package(self, capsys: pytest.CaptureFixture[str]) -> None:
        once, twice = (docker(capsys, *["diso"] * count, "--target", "8.6") for count in (1, 2))
        assert twice["wheels"] == once["wheels"]
        assert file_of(twice, "Dockerfile").count("diso-0.1.4") == file_of(once, "Dockerfile").count("diso-0.1.4")

    def test_an_uploaded_wheel_is_named_and_left_out(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        release = publish(store, tmp_path, "diso", "0.1.4+pt2.13.cu130.sm120", origin="upload", targets=("12.0",))
        assert any(release.filename in note for note in docker(capsys, "diso", "--target", "8.6")["notes"])
        _, kind, said, _ = refused(capsys, "diso", "--target", "12.0")
        assert kind == "no-such-build"
        assert f"{release.filename} was uploaded" in said

    def test_files_of_somebody_else_stay(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("image").mkdir()
        Path("image/Dockerfile").write_text("FROM mine\n", encoding="utf-8")
        code, kind, message, _ = refused(capsys, "diso", "--target", "8.6", "--out", "image")
        assert (code, kind) == (2, "usage")
        assert "Dockerfile" in message
        assert [path.name for path in Path("image").iterdir()] == ["Dockerfile"]
        assert Path("image/Dockerfile").read_text(encoding="utf-8") == "FROM mine\n"
        docker(capsys, "diso", "--target", "8.6", "--out", "image", "--force")
        docker(capsys, "diso", "--target", "8.9", "--out", "image")  # its own files it writes anew
        assert 'TORCH_CUDA_ARCH_LIST="8.9"' in Path("image/Dockerfile").read_text(encoding="utf-8")


@pytest.mark.usefixtures("store")
class TestTargets:
    def test_without_any_the_lists_to_use_are_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        for style in ("wheelhouse", "build", "compose"):
            code, kind, _, hint = refused(capsys, "diso", "--style", style)
            assert (code, kind) == (5, "no-target")
            assert "--target '8.6;8.9' (diso in the store)" in hint
            assert "--target '12.0' (RTX 50)" in hint
            assert f"--target '{DECLARED}'" in hint

    def test_an_exported_list_counts(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")
        assert docker(capsys, "diso")["targets"] == ["8.9"]

    def test_names_are_understood(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert docker(capsys, "diso", "--target", "rtx4090", "--target", "rtx3090")["targets"] == ["8.6", "8.9"]

    def test_a_variant_for_the_cpu_has_none(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put(store, tmp_path, "diso-0.1.4+pt2.13.cpu-cp311-cp311-linux_x86_64.whl", "diso", "", torch="2.13.0+cpu")
        answer = docker(capsys, "diso", "--variant", "pt2.13-cpu", "--style", "compose")
        assert (answer["device"], answer["targets"], answer["variant"]) == ("cpu", [], "pt2.13-cpu")
        assert "TORCH_CUDA_ARCH_LIST" not in file_of(answer, "Dockerfile")
        assert "nvidia" not in file_of(answer, "compose.yaml")
        assert refused(capsys, "diso", "--variant", "cpu", "--target", "8.6")[1] == "usage"

    @pytest.mark.parametrize(
        ("text", "variant"),
        [
            ("pt2.13-cu130", Variant("2.13.0+cu130", "13.0")),
            ("2.13.1+cu126", Variant("2.13.1+cu126", "12.6")),
            ("pt2.13-cpu", Variant("2.13.0+cpu", "")),
            ("cu130", Variant("", "13.0")),
            (
                "pt2.13-cu130-sm86-sm120ptx",
                Variant("2.13.0+cu130", "13.0", (Target(8, 6), Target(12, 0, "", ptx=True))),
            ),
            ("pt2.13-cu130-sm90a", Variant("2.13.0+cu130", "13.0", (Target(9, 0, "a"),))),
        ],
    )
    def test_variants_are_read(self, text: str, variant: Variant) -> None:
        assert parse_variant(text) == variant

    @pytest.mark.parametrize(
        "text", ["pt2.13", "2.13.0", "cu13", "pt2.13-cu130-8.6", "pt2.13-cu130-smx", "", "pt2.13-cpu "]
    )
    def test_what_is_no_variant_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_variant(text)


@pytest.mark.usefixtures("store")
class TestRequirements:
    @pytest.mark.parametrize(
        ("line", "both"),
        [
            ("torch==2.12.0", ["torch==2.12.0", "2.13.0+cu130"]),
            ("torch==2.13.0+cu126", ["torch==2.13.0+cu126", "2.13.0+cu130"]),
            ("Torch >= 2.14", ["Torch >= 2.14", "2.13.0+cu130"]),
            ("torch @ https://files.example/torch.whl", ["torch @ https", "2.13.0+cu130"]),
            ("diso==0.1.3", ["diso==0.1.3", "0.1.4+pt2.13.cu130.sm86.sm89"]),
        ],
    )
    def test_what_the_wheels_cannot_meet_is_told_with_both_sides(
        self, line: str, both: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("requirements.txt").write_text(f"numpy\n\n{line}  # because\n", encoding="utf-8")
        code, kind, message, _ = refused(capsys, "diso", "--target", "8.6", "--requirements", "requirements.txt")
        assert (code, kind) == (DependencyConflict.exit_code, "dependency-conflict")
        assert all(side in message for side in [*both, "requirements.txt:3"])

    @pytest.mark.parametrize(
        ("line", "torch"),
        [
            ("torch", "2.13.0+cu130"),
            ("torch==2.13.*", "2.13.0+cu130"),
            ("torch==2.13.1", "2.13.1+cu130"),  # the wheel's own pin is 2.13.*
            ("torch==2.13.1+cu130", "2.13.1+cu130"),
            ("torch>=2.9,<3", "2.13.0+cu130"),
        ],
    )
    def test_what_they_can_meet_is_met(self, line: str, torch: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path("requirements.txt").write_text(line, encoding="utf-8")
        assert docker(capsys, "diso", "--target", "8.6", "--requirements", "requirements.txt")["torch"] == torch

    def test_files_that_are_named_in_files_come_along(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("deps").mkdir()
        Path("requirements.txt").write_text("--requirement=deps/base.txt\nnotebook\n", encoding="utf-8")
        Path("deps/base.txt").write_text("-c pins.txt\n-r ../requirements.txt\n", encoding="utf-8")
        Path("deps/pins.txt").write_text("numpy<3\n", encoding="utf-8")
        words = ["diso", "--target", "8.6", "--requirements", "requirements.txt", "--style", "compose"]
        answer = docker(capsys, *words)
        for name in ("requirements.txt", "deps/base.txt", "deps/pins.txt"):
            assert f"source={name},target=/requirements/{name} " in file_of(answer, "Dockerfile")
            assert f"\n!{name}\n" in file_of(answer, ".dockerignore")
        assert "jupyter" in file_of(answer, "compose.yaml")

    @pytest.mark.parametrize(
        ("text", "evidence"),
        [
            ("-e .\n", "r.txt:1"),
            ("numpy \\\n  >=2\n--editable=git+https://git.example/a\n", "r.txt:3"),
            ("./local\n", "r.txt:1"),
            ("../local\n", "r.txt:1"),
            ("file:///srv/a.whl\n", "r.txt:1"),
            ("-r ../other.txt\n", "r.txt:1"),
            ("-r/etc/other.txt\n", "r.txt:1"),
        ],
    )
    def test_what_no_image_can_have_is_refused(self, text: str, evidence: str) -> None:
        with pytest.raises(UsageError) as caught:
            read_requirements("r.txt", {"r.txt": text}.__getitem__)
        assert caught.value.evidence == evidence

    def test_a_file_outside_of_the_context_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("requirements.txt").write_text("numpy\n", encoding="utf-8")
        words = ["diso", "--target", "8.6", "--requirements", "requirements.txt", "--out", "image"]
        assert "outside of the image's context" in refused(capsys, *words)[2]
        assert not Path("image").exists()


class TestIndex:
    WORDS = ("diso", "torch-scatter", "--style", "index", "--variant", "pt2.13-cu130")

    def test_its_packages_come_from_it_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = docker(capsys, *self.WORDS, "--index", "https://index.example/")
        text = file_of(answer, "Dockerfile")
        assert "ARG CUDABUILD_INDEX=https://index.example/pt2.13-cu130/simple/\n" in text
        download = re.findall(r"^RUN (?:.*\\\n)*.*pip download(?:.*\\\n)*.*", text, re.MULTILINE)[0]
        assert "--no-deps" in download
        assert "diso==0.1.4 torch-scatter==2.1.2" in download
        assert "PIP_CONFIG_FILE=/dev/null PIP_EXTRA_INDEX_URL='' PIP_FIND_LINKS=''" in download
        assert "pipconf" not in download
        assert "from=wheels,source=/wheelhouse" in text.partition("\nFROM base\n")[2]
        assert "explicit = true" in text
        assert (answer["wheels"], answer["origin"]) == ([], "index")

    def test_a_page_that_is_named_is_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = docker(capsys, *self.WORDS, "--index", "https://index.example/a/pt2.13-cu130/simple/")
        assert "ARG CUDABUILD_INDEX=https://index.example/a/pt2.13-cu130/simple/\n" in file_of(answer, "Dockerfile")

    def test_the_network_of_a_loopback_index_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = file_of(docker(capsys, *self.WORDS, "--index", "http://127.0.0.1:8000"), "Dockerfile")
        assert "docker build --network host" in text
        assert "http://host.docker.internal:8000/pt2.13-cu130/simple/" in text
        assert "--build-arg PIP_TRUSTED_HOST=host.docker.internal:8000" in text

    @pytest.mark.parametrize(
        ("index", "trusted"),
        [
            ("https://index.example", '""'),
            ("http://index.example:8000/a", "index.example:8000"),
            ("http://localhost:8000", '""'),
            ("http://[::1]:8000", '""'),
            ("http://127.0.0.1", '""'),
        ],
    )
    def test_plain_http_elsewhere_has_to_be_trusted(self, index: str, trusted: str) -> None:
        assert trusted_host(index) == trusted
        assert is_loopback(index) == (index.startswith("http://") and trusted == '""')

    @pytest.mark.parametrize(
        "words",
        [
            ("--index", "https://user:token@index.example"),
            ("--index", "https://token@index.example"),
            ("--index", "index.example"),
            ("--index", "https://index.example/a b"),
            (),
        ],
    )
    def test_addresses_that_cannot_stand_in_a_dockerfile(
        self, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, kind, message, _ = refused(capsys, *self.WORDS, *words)
        assert (code, kind) == (2, "usage")
        assert "token" not in message.replace("password or token", "")

    def test_secrets_are_mounted_only(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = docker(capsys, *self.WORDS, "--index", "https://index.example", "--style", "compose")
        text = file_of(answer, "Dockerfile")
        assert "--mount=type=secret,id=netrc,target=/root/.netrc" in text
        assert not re.search(r"^(ARG|ENV).*(TOKEN|PASSWORD|NETRC)", text, re.MULTILINE | re.IGNORECASE)
        assert "secrets: [netrc]" in file_of(answer, "compose.yaml")


class TestBuildInside:
    def test_targets_and_torch_are_explicit(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["diso", "--style", "build", "--target", "8.6;8.9", "--variant", "2.8.0+cu128"]
        text = file_of(docker(capsys, *words), "Dockerfile")
        assert "cudabuild build diso==0.1.4 --device cuda --target '8.6;8.9' --torch 2.8.0+cu128" in text
        assert "|| cudabuild toolkit install 12.8" in text
        assert "target=/root/.cache/cudabuild" in text

    def test_torch_of_another_index_is_asked_for_by_its_build(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["diso", "--style", "build", "--target", "8.6", "--variant", "2.13.0+cu126"]
        text = file_of(docker(capsys, *words), "Dockerfile")
        assert 'ARG TORCH_INDEX=""' in text
        assert text.count('${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}') == 2
        assert "wheels.txt torch==2.13.0+cu126" in text

    def test_what_the_requirements_pin_is_built_against(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("requirements.txt").write_text("torch==2.12.1\n", encoding="utf-8")
        words = ["diso", "--style", "build", "--target", "8.6", "--requirements", "requirements.txt"]
        assert docker(capsys, *words)["torch"] == "2.12.1+cu130"

    def test_headers_are_for_the_build_and_libraries_for_the_image(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["cubvh", "minkowskiengine", "--style", "build", "--target", "8.6", "--variant", "pt2.13-cu130-sm86"]
        stages = file_of(docker(capsys, *words), "Dockerfile").split("\nFROM ")
        assert "libopenblas0" in stages[1]
        assert "libeigen3-dev libopenblas-dev" in stages[2]
        assert "-dev" not in stages[1] + stages[3]

    def test_recipes_of_ones_own_come_along(self, capsys: pytest.CaptureFixture[str]) -> None:
        write_recipe(Path("recipes"), "own")
        words = ["own", "--style", "build", "--target", "8.6", "--variant", "cu130"]
        answer = docker(capsys, *words, "--recipes", "recipes")
        text = file_of(answer, "Dockerfile")
        assert "--mount=type=bind,source=recipes,target=/recipes" in text
        assert "--recipes /recipes" in text
        assert "--torch" not in text
        code, _, message, _ = refused(capsys, *words, "--recipes", "recipes", "--out", "elsewhere")
        assert (code, "not in the image's context" in message) == (2, True)

    def test_only_what_is_linked_to_the_driver_may_miss_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["tinycudann", "diso", "--style", "build", "--target", "8.6", "--variant", "pt2.13-cu130-sm86"]
        assert "check --torch 2.13.0+cu130 --driver tinycudann diso diso._C" in file_of(
            docker(capsys, *words), "Dockerfile"
        )


def test_what_hadolint_ignores_has_its_reason() -> None:
    for text in {texts(image)[0].text for image in IMAGES}:
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if "hadolint ignore" in line:
                assert re.match(r"# [A-Z].*\.$", lines[number - 1]), lines[number - 1]


SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "build"],
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"context": {"type": "string"}, "secrets": {"type": "array", "items": {"enum": ["netrc"]}}},
        },
        "command": {"type": "array", "items": {"type": "string"}},
        "init": {"type": "boolean"},
        "tty": {"type": "boolean"},
        "stdin_open": {"type": "boolean"},
        "shm_size": {"type": "string", "pattern": "^[0-9]+gb$"},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:/"}, "uniqueItems": True},
        "ports": {"type": "array", "items": {"type": "string", "pattern": "^127.0.0.1:"}},
        "profiles": {"type": "array", "items": {"type": "string"}},
        "restart": {"enum": ["unless-stopped"]},
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test"],
            "properties": {
                "test": {"type": "array", "prefixItems": [{"const": "CMD"}]},
                **{key: {"type": "string", "pattern": "^[0-9]+s$"} for key in ("interval", "timeout", "start_period")},
                "retries": {"type": "integer"},
            },
        },
        "deploy": {
            "const": {
                "resources": {
                    "reservations": {"devices": [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]}
                }
            }
        },
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services", "volumes"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "services": {"type": "object", "required": ["app", "dev"], "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"const": {}}},
        "secrets": {"const": {"netrc": {"file": "${HOME}/.netrc"}}},
    },
}
"""What this project writes of the Compose Specification."""


def specified(document: dict[str, Any]) -> dict[str, Any]:
    """What the package knows that was made of the specification's own schema: neither extensions (x-...), which may
    hold anything, nor the secrets of a build, which are younger than the package."""
    known = {name: value for name, value in copy.deepcopy(document).items() if not name.startswith("x-")}
    for service in known["services"].values():
        service["build"].pop("secrets", None)
    return known


@pytest.mark.parametrize("image", [IMAGES[0], IMAGES[4], IMAGES[-1], IMAGES[len(IMAGES) // 2]], ids=lambda i: i.origin)
def test_compose_files_have_the_shape_that_the_specification_wants(image: Image) -> None:
    written = texts(image, compose=True)[-1]
    assert written.path == "compose.yaml"
    document = yaml.safe_load(written.text)
    ComposeSpecification.model_validate(specified(document))
    with pytest.raises(ValidationError):
        ComposeSpecification.model_validate({"services": {"app": {"shm-size": "8gb"}}})
    Draft202012Validator(COMPOSE).validate(document)
    app = document["services"]["app"]
    assert ("deploy" in app) == (image.device == "cuda") == ("monitor" in document["services"])
    compile(app["healthcheck"]["test"][3], "health", "exec")
    mounted = {volume.partition(":")[0] for service in document["services"].values() for volume in service["volumes"]}
    assert mounted - {"."} == document["volumes"].keys()
    assert ("secrets" in document) == (image.origin == "index")


def test_the_health_check_calls_cuda() -> None:
    for torch, call in (("2.13.0+cu130", "device='cuda'"), ("", "cuInit(0)")):
        image = next(image for image in IMAGES if image.torch == torch and image.targets)
        assert call in texts(image, compose=True)[-1].text


def test_pieces() -> None:
    assert run((), "one", "two") == "RUN one \\\n    && two"
    assert run(("--mount=a",), "one") == "RUN --mount=a \\\n    one"
    assert comment("a\n\nb") == "# a\n#\n# b"
    assert "{ apt-get update" in apt_install(("x",), unless="true")


class TestSteps:
    """The script that runs in the image."""

    def test_wheels_are_named_by_hash(self, tmp_path: Path) -> None:
        make_wheel(tmp_path / "wheelhouse", "two_three-1.0+a.b-py3-none-any.whl")
        image_steps.wheels(str(tmp_path / "wheelhouse"))
        (line,) = (tmp_path / "wheelhouse" / "wheels.txt").read_text(encoding="utf-8").splitlines()
        assert re.fullmatch(
            r"two-three @ file:///\S+/two_three-1\.0%2Ba\.b-py3-none-any\.whl#sha256=[0-9a-f]{64}", line
        )
        with pytest.raises(SystemExit, match="no wheel in"):
            image_steps.wheels(str(tmp_path))

    def constraints(self, folder: Path, items: list[dict[str, Any]], requirements: str = "") -> tuple[str, str]:
        (folder / "report.json").write_text(json.dumps({"install": items}), encoding="utf-8")
        (folder / "wheels.txt").write_text("# a @ b\none @ file:///wheelhouse/one.whl#sha256=0\n", encoding="utf-8")
        (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
        names = ("report.json", "wheels.txt", "constraints.txt", "others.txt", "requirements.txt")
        image_steps.constraints(*(str(folder / name) for name in names))
        return tuple((folder / name).read_text(encoding="utf-8") for name in names[2:4])  # type: ignore[return-value]

    def test_all_versions_are_pinned_and_compiled_wheels_come_later(self, tmp_path: Path) -> None:
        vcs = {"url": "https://git.example/b", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}
        items: list[dict[str, Any]] = [
            {"metadata": {"name": "Some.Thing", "version": "1.5"}, "download_info": {"url": "https://a"}},
            {"metadata": {"name": "one", "version": "1.0+pt2.13"}, "is_direct": True, "download_info": {"url": "f"}},
            {"metadata": {"name": "b", "version": "2"}, "is_direct": True, "download_info": vcs},
        ]
        lines = "--extra-index-url https://more.example\n-r other.txt\nsome.thing\n  --pre\n--find-links=x\n"
        pinned, others = self.constraints(tmp_path, items, lines)
        assert pinned.splitlines() == ["b==2", "one==1.0+pt2.13", "some-thing==1.5"]
        assert others.splitlines() == [
            "--extra-index-url https://more.example", "--pre", "--find-links=x",
            "b @ git+https://git.example/b@c0ffee", "some-thing==1.5",
        ]  # fmt: skip

    def test_a_resolution_without_the_compiled_wheels_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="without one"):
            self.constraints(tmp_path, [])

    @pytest.mark.parametrize(
        ("code", "driver", "outcome"),
        [
            ("", False, "imported"),
            ("raise ImportError('libcuda.so.1: cannot open shared object file')", True, "not possible here"),
            ("raise RuntimeError('Found no NVIDIA driver on your system')", True, "not possible here"),
            ("raise ImportError('libcuda.so.1: cannot open shared object file')", False, None),
            ("raise ImportError('libcudart.so.12: cannot open shared object file')", True, None),
        ],
    )
    def test_a_missing_driver_is_let_pass_where_the_recipe_says_so(
        self, code: str, driver: bool, outcome: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "imported_by_test.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "imported_by_test", raising=False)
        if outcome is None:
            with pytest.raises(ImportError):
                image_steps.import_or_excuse("imported_by_test", driver)
        else:
            assert image_steps.import_or_excuse("imported_by_test", driver).startswith(outcome)

    def test_another_torch_ends_the_build(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "torch.py").write_text("__version__ = '2.13.0+cpu'", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        with pytest.raises(SystemExit, match=r"for torch 2\.13\.0\+cu130, and torch 2\.13\.0\+cpu was installed"):
            image_steps.check("--torch", "2.13.0+cu130")
        monkeypatch.delitem(sys.modules, "torch", raising=False)

    def test_a_package_without_a_name_ends_the_build(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        info = tmp_path / "UNKNOWN-0.0.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: UNKNOWN\nVersion: 0.0.0\n", encoding="utf-8")
        image_steps.check()
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(SystemExit, match="called UNKNOWN"):
            image_steps.check()


@pytest.mark.usefixtures("store")
def test_every_refusal_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["diso"], ["disso", "--target", "8.6"], ["./a", "--target", "8.6"], ["diso", "--python", "3"],
                  ["diso", "--style", "build", "--index", "https://index.example", "--target", "8.6"]):  # fmt: skip
        code, _, message, hint = refused(capsys, *words)
        assert code in {2, 3, 5}, message
        assert hint
    assert issubclass(NoSuchBuild, CudabuildError)


@pytest.mark.parametrize(
    "words",
    [
        ("--style", "build", "--base", "debian:12\nRUN evil"),
        ("--style", "build", "--base", "a b"),
        ("--style", "index", "--index", "http://localhost:abc"),
        ("--style", "index", "--index", "http://[::1"),
        ("--style", "index", "--index", "https://x.example/$HOME/'a"),
    ],
)
def test_nothing_typed_becomes_a_line_of_its_own(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, kind, _, hint = refused(capsys, "diso", "--variant", "pt2.13-cu130", *words)
    assert (code, kind) == (2, "usage")
    assert hint


@pytest.mark.parametrize("name", ["my file.txt", "a,target=/etc.txt", "a\rprint(1)", "a'b.txt", "$HOME.txt"])
def test_a_file_whose_name_a_mount_would_misread_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be named in a Dockerfile"):
        read_requirements(name, lambda _: "")


def test_every_end_of_a_line_stays_a_comment() -> None:
    assert comment("a\rb\u2028c") == "# a\n# b\n# c"
