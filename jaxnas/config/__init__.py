"""A TOML file and flags → a checked configuration → the parts of a search."""

from jaxnas.config.configuration import (
    MAY_DIFFER,
    Table,
    differences,
    dump,
    from_table,
    keys,
    load,
    override,
    read,
    to_table,
    twin,
    usage,
)
from jaxnas.config.parts import GIVEN, Parts, build, build_space, registries, resampling
from jaxnas.config.sections import (
    SECTIONS,
    Config,
    Constraints,
    Final,
    Runtime,
    SearchSettings,
    StopSettings,
    is_folder_name,
)

__all__ = [
    "GIVEN", "MAY_DIFFER", "SECTIONS", "Config", "Constraints", "Final", "Parts", "Runtime", "SearchSettings",
    "StopSettings", "Table", "build", "build_space", "differences", "dump", "from_table",
    "is_folder_name", "keys", "load", "override", "read", "registries", "resampling", "to_table",
    "twin", "usage",
]  # fmt: skip
