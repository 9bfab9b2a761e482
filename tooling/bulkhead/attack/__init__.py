"""Attacks by name: what is declared about each, how they are found, carried out, and shown to be noticed.

Trust label: TOOL. The attacks themselves, and the ground that they are carried out on, are in tests/attack.
"""

from bulkhead.attack.declaration import Attack, Machine, attack
from bulkhead.image.variant import Edit

__all__ = ["Attack", "Edit", "Machine", "attack"]
