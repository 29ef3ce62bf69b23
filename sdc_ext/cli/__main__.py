"""For launchers: ``torchrun -m sdc_ext.cli``."""

import sys

from sdc_ext.cli import main

sys.exit(main())
