"""The commands of `jaxnas`, one file each; `cli` is the way in."""
