"""``activeph schema``: what editors need to complete and check campaign files."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.option("--text", is_flag=True, help="List all keys and kinds with their meanings, for people.")
def command(text: bool) -> None:
    """Print the JSON schema of campaign files, or with --text what every key means.

    \b
    Editors with a YAML language server complete keys and show their meaning after
      activeph schema > activeph.schema.json
    and, as first line of the campaign file,
      # yaml-language-server: $schema=activeph.schema.json
    """
    if text:
        from activeph.config.reference import reference

        click.echo(reference())
        return
    from activeph.config.json_schema import campaign_schema

    click.echo(json.dumps(campaign_schema(), indent=1))
