"""Stock pycasbin behind FastAPI, as its users put it: a model for the body, an endpoint, an answer."""

import time
from typing import Any

from bench.peers.common.rules import Rules
from bench.peers.common.world import World
from bench.peers.pycasbin.translate import Enforcer
from fastapi import FastAPI
from pydantic import BaseModel


class Subject(BaseModel):
    """Who asks."""

    id: str


class Action(BaseModel):
    """What for."""

    name: str


class Properties(BaseModel):
    """Of which patient, of which class."""

    patient: str


class Resource(BaseModel):
    """Which record."""

    id: str
    properties: Properties


class Context(BaseModel):
    """The stated purpose."""

    purpose: str


class Evaluation(BaseModel):
    """An AuthZEN evaluation request."""

    subject: Subject
    action: Action
    resource: Resource
    context: Context


def build_app(world: World, rules: Rules) -> FastAPI:
    """Return the application; facts are in memory, as ours are."""
    app, enforcer = FastAPI(), Enforcer(world, rules)

    @app.post("/access/v1/evaluation")
    async def evaluate(asked: Evaluation) -> dict[str, Any]:
        resource, now = asked.resource, int(time.time())
        patient, purpose = resource.properties.patient, asked.context.purpose
        return {"decision": enforcer.allows(asked.subject.id, asked.action.name, patient, resource.id, purpose, now)}

    return app
