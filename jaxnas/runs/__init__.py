"""A run is a folder: its state, its ledgers, and what is recorded of where it ran."""
