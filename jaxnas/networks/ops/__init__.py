"""The operations that networks are made of, with the lowerings that are fast on a CPU."""
