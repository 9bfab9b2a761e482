"""DMA windows, which the host's devices reach through the SMMU: `dma_allow` and `dma_revoke`."""

from __future__ import annotations

from .. import stage2
from ..events import InvalidateDma, Publish
from ..state import HOST, Kind, Record
from ..transaction import Transaction
from ..words import Word, negate
from . import frames


def dma_allow(t: Transaction, block: Word) -> None:
    """The host's devices may reach a block that the host has as a whole; no frame of it changes hands meanwhile."""
    t.need(negate(t.before.config.has_dma == 0), "NOT_SUPPORTED")
    number = frames.need_block(t, block, 1)
    frames.need_cleared_host_block(t, number, 1)

    t.set_block(number, Record(Kind.DMA))
    t.set_dma_entry(number, stage2.block(t.before.config, number))
    t.emit(Publish())


def dma_revoke(t: Transaction, block: Word) -> None:
    """The devices reach the block no more."""
    t.need(negate(t.before.config.has_dma == 0), "NOT_SUPPORTED")
    number = frames.need_block(t, block, 1)
    t.need(t.before.block[number].kind == Kind.DMA, "NOT_OWNED", 1)

    t.set_dma_entry(number, 0)
    t.emit(InvalidateDma(number))
    t.set_block(number, HOST)
