"""The SMMU is told to forget another VMID than that of the devices."""

from bulkhead.defects import Edit, attacks, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/arch/src/smmu.rs",
        "CMD_TLBI_S12_VMALL | DMA_VMID << VMID_SHIFT",
        "CMD_TLBI_S12_VMALL | (DMA_VMID - 1) << VMID_SHIFT",
    ),
    found_by=attacks("dma_after_revoke"),
)
