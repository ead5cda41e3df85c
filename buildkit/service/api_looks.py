"""What there is beside builds, over HTTP: which wheel fits, the matrix, recipes, workers; whether the service is up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from buildkit.service.answers import HealthAnswer, MatrixAnswer, RecipeList, ResolveAnswer, WorkerList
from buildkit.service.api_builds import RECIPE, Here

router = APIRouter(prefix="/api/v1", tags=["wheels"])
health = APIRouter(tags=["health"])
_Word = Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_]*$")


@router.get("/resolve", summary="Which wheel for this machine")
def resolve(
    service: Here,
    recipe: Annotated[str, Query(min_length=1, max_length=64, pattern=RECIPE, examples=["my-kernels"])],
    torch: Annotated[str | None, _Word] = None,
    python: Annotated[str | None, _Word] = None,
    platform: Annotated[str | None, _Word] = None,
    target: Annotated[str | None, _Word] = None,
) -> ResolveAnswer:
    """The newest version that fits, the furthest proven of it, with the line that installs it; where nothing fits,
    the command that builds it."""
    return service.resolve(recipe, torch=torch, python=python, platform=platform, target=target)


@router.get("/matrix", summary="Recipes by variants")
def matrix(service: Here) -> MatrixAnswer:
    """What there is, how far it is proven, what failed."""
    return service.matrix()


@router.get("/recipes", summary="What can be built")
def recipes(service: Here) -> RecipeList:
    """The recipes that this server knows."""
    return service.recipes()


@router.get("/workers", summary="What runs builds")
def workers(service: Here) -> WorkerList:
    """With what each runs."""
    return service.workers()


@health.head("/healthz", include_in_schema=False)
@health.get("/healthz", summary="Whether it is up")
def healthz() -> HealthAnswer:
    """It answers."""
    return HealthAnswer(status="ok")


@health.head("/readyz", include_in_schema=False)
@health.get("/readyz", summary="Whether it can work", responses={503: {"model": HealthAnswer}})
def readyz(service: Here, response: Response) -> HealthAnswer:
    """Database, worker and store, each `ok` or not."""
    checks = service.check()
    fine = all(check == "ok" for check in checks.values())
    response.status_code = 200 if fine else 503
    return HealthAnswer(status="ok" if fine else "failing", checks=checks)
