"""/v1/jobs: what was asked for, how far it is, and an end to it.

A job is known by the `X-Job-Id` of its answer.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from .job import Job
from .served import Served
from .service import Service

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "there is no such job"}}


@router.get("")
async def list_jobs(service: Served) -> dict[str, Any]:
    """All that are remembered, the oldest first."""
    return {"object": "list", "data": [_told(service, job) for job in service.jobs()]}


@router.get("/{id}", responses=MISSING)
async def get_job(id: str, service: Served) -> dict[str, Any]:
    """How far it is."""
    return _told(service, service.find(id))


@router.delete("/{id}", responses=MISSING)
async def cancel_job(id: str, service: Served) -> dict[str, Any]:
    """Cancel it: it ends at its next step or token; one that is over stays as it is."""
    job = service.find(id)
    job.cancel()
    return _told(service, job)


def _told(service: Service, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "object": "job",
        "kind": job.kind,
        "model": job.model,
        "state": job.state,
        "ahead": service.place(job),
        "steps": {"done": sum(d for d, _ in job.steps), "total": sum(t for _, t in job.steps)},
        "created": int(job.created),
        "ended": None if job.ended is None else int(job.ended),
        "error": None if job.refusal is None else job.refusal.body["error"],
    }
