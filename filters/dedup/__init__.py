"""Set steps that find rows which say the same."""
