"""``activeph schema``: what editors need to complete and check campaign files."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON schema of campaign files.

    \b
    Editors with a YAML language server complete keys and show their meaning after
      activeph schema > activeph.schema.json
    and, as first line of the campaign file,
      # yaml-language-server: $schema=activeph.schema.json
    """
    from activeph.config.json_schema import campaign_schema

    click.echo(json.dumps(campaign_schema(), indent=1))
