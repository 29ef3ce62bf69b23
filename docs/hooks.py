"""What the build of the site adds to MkDocs: formulas, and a check that the API pages are whole."""

import html
import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import Abort
from mkdocstrings import Inventory

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Renders formulas as MathML, so that pages load nothing from elsewhere."""
    content = _INLINE.sub(lambda found: convert(html.unescape(found[1])), content)
    return _BLOCK.sub(lambda found: convert(html.unescape(found[1]), display="block"), content)


def on_post_build(config: Any) -> None:
    """Checks that every public name has its place in the site, which means a docstring, too."""
    recorded = Path(config.config_file_path).parent / "tests" / "api_surface.json"
    with (Path(config.site_dir) / "objects.inv").open("rb") as file:
        documented = Inventory.parse_sphinx(file)
    missing = [name for name in json.loads(recorded.read_text()) if name not in documented]
    if missing:
        raise Abort("public names without documentation:\n" + "\n".join(missing))
