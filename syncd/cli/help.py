# SPDX-License-Identifier: Apache-2.0
"""``syncd help``: the pages of the handbook, which lie in the package as Markdown."""

from collections.abc import Mapping
from importlib.resources import files

import click


@click.command()
@click.argument("topic", required=False)
def help(topic: str | None) -> None:  # noqa: A001 -- the name of the command
    """Read the handbook: lists its pages, or prints the one about TOPIC."""
    pages = handbook()
    if topic is None:
        click.echo("\n".join(page_lines(pages)))
    elif topic in pages:
        click.echo(pages[topic], nl=False)
    else:
        raise click.UsageError(f"the handbook has no page {topic}; it has {', '.join(pages)}")


def handbook() -> dict[str, str]:
    """The pages by topic, in alphabetical order; a topic is the name of its file without ``.md``."""
    found = (files("syncd") / "handbook").iterdir()
    return {page.name.removesuffix(".md"): page.read_text(encoding="utf-8") for page in sorted(found, key=str)}


def page_lines(pages: Mapping[str, str]) -> list[str]:
    """The table of contents: each topic with its page's title, which is the page's first line."""
    width = max(map(len, pages), default=0)
    titles = {topic: text.partition("\n")[0].removeprefix("# ") for topic, text in pages.items()}
    return [f"{topic:{width}}  {title}" for topic, title in titles.items()]
