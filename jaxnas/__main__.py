"""`python -m jaxnas`."""

import sys

from jaxnas.commands.cli import main

sys.exit(main())
