"""``python -m aiflow_sdk.cli``: the same as ``aiflow``."""

import sys

from aiflow_sdk.cli import main

sys.exit(main())
