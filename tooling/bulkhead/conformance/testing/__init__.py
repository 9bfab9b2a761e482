"""What tests are written with: calls by name (`machine`), VMs (`builder`), the plugin of pytest. Trust label: TOOL."""
