"""The register table `engine/arch/registers/*.toml` and everything that derives from it. Trust label: TOOL."""

from bulkhead.registers.table import Encoding, Group, IdRegister, Register, Table, load

__all__ = ["Encoding", "Group", "IdRegister", "Register", "Table", "load"]
