"""The prover: machine code of the shipped image against the specification. Trust label: CHECKED."""
