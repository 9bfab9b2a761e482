"""Path exploration of the machine code of an ELF file.

Reading order: `image` (what is executed), `memory` (typed regions of words), `state` (one machine),
`explore` (all paths of one function), `solver` (the questions that have to be answered on the way).
"""
