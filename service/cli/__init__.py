"""`whyrank`: everything the product does, from a shell. Exit codes: 0 done, 1 failed, 2 wrong
usage.

A file per subject; `shell` holds what they share. Installed packages add commands by the
entry-point group `whyrank.commands`.
"""

from importlib.metadata import entry_points

import typer

from service.cli import datasets, doctor, feeds, keys, models, ranking, serving
from service.cli.shell import ErrorReporter, main

__all__ = ["app"]

app = typer.Typer(
    cls=ErrorReporter,
    help="Ranks, for one person, what to show next, and says why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.callback()(main)
app.add_typer(models.app, name="models")
app.add_typer(ranking.prompts, name="prompts")
app.add_typer(keys.app, name="keys")

for plugin in entry_points(group="whyrank.commands"):
    plugin_command = plugin.load()
    if isinstance(plugin_command, typer.Typer):
        app.add_typer(plugin_command, name=plugin.name)
    else:
        app.command(plugin.name)(plugin_command)

app.command()(datasets.data)
app.command(help=feeds.INGEST_HELP)(feeds.ingest)
app.command(context_settings={"allow_interspersed_args": False})(serving.engine)
for command in (serving.serve, serving.up, ranking.recommend, doctor.doctor, datasets.demo):
    app.command()(command)
