"""The routes of the facts that decisions need and no request may assert."""

from fastapi import APIRouter

from ruqsat.service.block_registry import BlockRegistry
from ruqsat.service.status_registry import StatusRegistry
from ruqsat.web.blocks import build_blocks
from ruqsat.web.care import SHAPES, build_care
from ruqsat.web.directory import build_directory
from ruqsat.web.gate import Gate
from ruqsat.web.patients import build_patients


def build_facts(blocks: BlockRegistry, gate: Gate) -> tuple[APIRouter, ...]:
    """Build all of them."""
    care = blocks.care
    return (
        build_patients(StatusRegistry(blocks.store, blocks.changes, care), gate),
        *(build_care(care, gate, shape) for shape in SHAPES),
        build_directory(care, gate, "subjects"),
        build_directory(care, gate, "organisations"),
        build_blocks(blocks, gate),
    )
