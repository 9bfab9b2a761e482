"""Seeded defects: engines with one mistake each, and which part of the suite is to find it. Trust label: TOOL."""

from bulkhead.defects.declaration import Defect, Finder, attacks, conformance, defect, suite, trace
from bulkhead.image.variant import Edit

__all__ = ["Defect", "Edit", "Finder", "attacks", "conformance", "defect", "suite", "trace"]
