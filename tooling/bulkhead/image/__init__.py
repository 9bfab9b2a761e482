"""The engine image: its memory map, and how the bootable file is built. Trust label: TOOL."""
