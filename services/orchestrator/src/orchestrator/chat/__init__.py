"""What the orchestrator decides, free of wires and stores.

Values that every request makes anew are named tuples: a frozen dataclass takes three times as long to make.
"""
