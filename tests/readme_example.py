"""Runs the README's example as a reader would paste it, in the folder where one stands.

python tests/readme_example.py README.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def example(readme: Path) -> str:
    """The code block that imports the library."""
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if block.startswith("import sdc_ext"))
    return str(found)


if __name__ == "__main__":
    exec(compile(example(Path(sys.argv[1])), sys.argv[1], "exec"), {"__name__": "__main__"})
