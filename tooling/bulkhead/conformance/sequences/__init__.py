"""`inv conform`: sequences of steps that the specification helps to choose, on any backend; what fails is shortened and
kept. Trust label: TOOL.
"""
