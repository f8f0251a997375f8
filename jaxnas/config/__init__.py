"""A TOML file and flags → a checked configuration → the parts of a search."""

from jaxnas.config.configuration import (
    MAY_DIFFER,
    SECTIONS,
    Config,
    Constraints,
    Parts,
    Runtime,
    Search,
    Stop,
    Table,
    build,
    build_space,
    differences,
    dump,
    from_table,
    is_folder_name,
    keys,
    load,
    override,
    read,
    registries,
    resampling,
    to_table,
    twin,
    usage,
)

__all__ = [
    "MAY_DIFFER", "SECTIONS", "Config", "Constraints", "Parts", "Runtime", "Search", "Stop", "Table",
    "build", "build_space", "differences", "dump", "from_table", "is_folder_name", "keys", "load",
    "override", "read", "registries", "resampling", "to_table", "twin", "usage",
]  # fmt: skip
