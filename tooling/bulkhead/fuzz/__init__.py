"""Coverage-guided fuzzing of the engine's decisions: bytes become steps, the specification judges each.

Trust label: TOOL. The fuzzer is libFuzzer (LLVM), fed by counters in the host library. `decode` makes steps of its
bytes, `target` takes them on a fake machine under the oracle, `driver` is the process that libFuzzer runs in, and
`campaign` what `inv fuzz` does.
"""
