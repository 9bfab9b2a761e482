"""The machine with all bus masters that the attacks use. Trust label: TOOL."""

from boot.devices import edu, nvme, virtio
from bulkhead.attack import Machine

DEVICES = Machine(
    devices=(edu.OPTION, nvme.OPTION, virtio.PCI_OPTION, virtio.MMIO_OPTION), extra=virtio.MODERN_MMIO
)
EDU, NVME, VIRTIO = 1, 2, 3
"""Slots of bus 0."""
