"""Build hook: links of the README to files of the checkout become addresses, as PyPI shows no files.

They lead to the release in the repository that ``[project.urls]`` names as ``Source``; without one they stay as they are.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURES = (".gif", ".jpg", ".png", ".svg")


class Readme(MetadataHookInterface):
    """What is said of the project, from the README."""

    def update(self, metadata: dict) -> None:
        """Set the field ``readme``."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        text = text if source is None else with_addresses(text, source, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_addresses(text: str, source: str, tag: str) -> str:
    """Replace relative links in a markdown text by addresses in a repository; pictures by those of the files themselves."""

    def address(link: re.Match[str]) -> str:
        kind = "raw" if link[1].partition("#")[0].endswith(PICTURES) else "blob"
        return f"]({source.rstrip('/')}/{kind}/{tag}/{link[1]})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)\s]+)\)", address, text)
