"""The command line, as ``python -m sdc_ext``."""

import sys

from sdc_ext.cli import main

sys.exit(main())
