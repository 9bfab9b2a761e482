"""What people look at: terminal views and drawings. Trust label: TOOL."""
