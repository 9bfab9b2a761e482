"""The specification as a page for readers: made from its definitions by watching them run. Trust label: TOOL."""
