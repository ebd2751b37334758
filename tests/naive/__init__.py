"""The exchange written as its rule book reads: slow, plain, and the judge of the compiled one."""
