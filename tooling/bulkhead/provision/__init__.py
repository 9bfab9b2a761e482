"""Everything the project needs that is not in the repository: compiler, QEMU, guests, Python packages.

Trust label: TOOL, with one exception: `pins.toml` and `flags.toml` determine the reference image and are reviewed
like source. What is downloaded for that image is pinned by version and SHA-256.
"""
