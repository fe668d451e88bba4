"""The routes of the facts that decisions need and no request may assert."""

from fastapi import APIRouter

from ruqsat.service.care_registry import CareRegistry
from ruqsat.web.care import SHAPES, build_care
from ruqsat.web.gate import Gate
from ruqsat.web.patients import build_patients


def build_facts(registry: CareRegistry, gate: Gate) -> tuple[APIRouter, ...]:
    """Build all of them."""
    return (build_patients(registry, gate), *(build_care(registry, gate, shape) for shape in SHAPES))
