"""``cudabuild docker``: a Dockerfile for compiled packages, and what goes beside it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.options import Asked, Warnings, examples, json_option, make_context
from buildkit.cli.output import answer, print_json, say
from buildkit.errors import UsageError

if TYPE_CHECKING:
    from buildkit.cli.docker_request import Composed
    from buildkit.cli.docker_schema import DockerObject
    from buildkit.docker.model import Text
    from buildkit.store.store import Store

_PATH = click.Path(path_type=Path)
MARKED_LINES = 3
"""Lines at the head of a file among which the mark of this command stands."""

EPILOG = examples(
    "cudabuild docker diso --target '8.6;8.9' --requirements requirements.txt --out .",
    "cudabuild docker diso --target 12.0 --style compose --out .",
    "cudabuild docker diso --variant pt2.13-cu130 --style index --index https://index.example",
    "cudabuild docker diso torch-scatter --target 8.9 --style build --base debian:12",
)


@click.command("docker", epilog=EPILOG)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--requirements", type=_PATH, metavar="FILE", help="What else goes into the image, resolved together.")
@click.option("--variant", metavar="NAME", help="Torch and CUDA: pt2.13-cu130, pt2.13-cpu, 2.13.0+cu130.")
@click.option("--target", "targets", multiple=True, metavar="LIST", help="8.6, '8.9;12.0+PTX', rtx4090, native, all.")
@click.option("--base", metavar="IMAGE", help="Image to begin with; by default one of Python's own.")
@click.option("--python", metavar="X.Y", help="The image's Python; by default the wheels'.")
@click.option(
    "--style",
    type=click.Choice(["wheelhouse", "index", "build", "compose"]),
    default="wheelhouse",
    show_default=True,
    help="Wheels from the context, from --index, or built inside; compose: services as well.",
)
@click.option("--index", metavar="URL", help="An index of compiled wheels, or a variant's page of it.")
@click.option("--recipes", "recipes_folder", type=_PATH, metavar="DIR", help="Look for recipes here first.")
@click.option("--out", type=_PATH, metavar="DIR", help="Write everything here; by default the Dockerfile is printed.")
@click.option("--force", is_flag=True, help="Replace files that this command did not write.")
@json_option
def command(recipes: tuple[str, ...], **options: Any) -> int:  # fmt: skip
    """Write a Dockerfile (or a compose file) for an image with compiled packages, built without a GPU.

    Its requirements are resolved in one go and kept as constraints, the compiled wheels come last, and are imported
    while the image is built.
    """
    from buildkit.cli.docker_inputs import read_inputs
    from buildkit.cli.docker_request import compose
    from buildkit.docker.texts import texts

    asked = Asked.read(options)
    store = make_context(asked, Warnings()).store
    out: Path | None = options["out"]
    inputs = read_inputs(recipes, options, asked, store, out or asked.cwd)
    composed = compose(inputs)
    files = texts(composed.image, compose=inputs.compose)
    if out is not None:
        write_all(files, composed, store, out, force=options["force"])
    if options["as_json"]:
        print_json(_object(files, composed, out).model_dump(mode="json", by_alias=True))
    else:
        _tell(files, composed, out)
    return 0


def write_all(files: Sequence[Text], composed: Composed, store: Store, out: Path, *, force: bool) -> None:
    """Write the texts and hand out the wheels; nothing at all where a file is somebody else's (UsageError)."""
    if not force and (foreign := [text.path for text in files if not _is_ours(out / text.path)]):
        raise UsageError(
            f"{', '.join(foreign)} in {out} {'was' if len(foreign) == 1 else 'were'} not written by this command",
            hint="choose another folder with --out, or replace with --force",
        )
    for entry in composed.entries:
        store.hand_out(entry, out / "wheelhouse")
    for text in files:
        place = out / text.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text.text, encoding="utf-8")


def _is_ours(path: Path) -> bool:
    """Whether there is no such file, or one that this command wrote."""
    from buildkit.docker.model import MARK

    try:
        with path.open(encoding="utf-8") as file:
            return any(MARK in line for line in itertools.islice(file, MARKED_LINES))
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False


def _object(files: Sequence[Text], composed: Composed, out: Path | None) -> DockerObject:
    from buildkit.cli.docker_schema import DockerObject, FileObject, ImageWheelObject

    image = composed.image
    return DockerObject(
        origin=image.origin,
        variant=image.variant,
        device=image.device,
        targets=[str(target) for target in image.targets],
        torch=image.torch,
        python=image.python,
        base=image.base,
        files=[FileObject(path=text.path, text=text.text) for text in files],
        wheels=[
            ImageWheelObject(path=f"wheelhouse/{entry.filename}", sha256=entry.sha256, key=entry.key)
            for entry in composed.entries
        ],
        folder=str(out) if out is not None else None,
        notes=list(composed.notes),
    )


def _tell(files: Sequence[Text], composed: Composed, out: Path | None) -> None:
    for note in composed.notes:
        say(f"note: {note}")
    if out is None:
        answer(files[0].text.rstrip("\n"))
        others = [text.path for text in files[1:]] + [f"wheelhouse/{entry.filename}" for entry in composed.entries]
        say(f"beside it go {', '.join(others)}: --out DIR writes everything")
        return
    for text in files:
        say(f"wrote {out / text.path}")
    for entry in composed.entries:
        say(f"wrote {out / 'wheelhouse' / entry.filename} (proven: {entry.verdict.get('grade', 'nothing')})")
    if any(text.path == "compose.yaml" for text in files):
        say(f"start it: docker compose --project-directory {out} up --build --detach")
    else:
        say(f"build it: docker build --tag IMAGE {out}")
