"""What the agent of this host should offer. Runs here, without a master."""

from __future__ import annotations

from argparse import Namespace

from ffrtmp.errors import Exit

from ..context import Context


def recommend(args: Namespace, context: Context) -> int:
    """Measure this host and tell the settings, in the form that was asked for."""
    from ffrtmp.host.facts import measure
    from ffrtmp.host.recommend import Format, render
    from ffrtmp.host.recommend import recommend as advise

    form: Format = "text" if args.format == "table" else args.format
    context.out.write(render(advise(measure()), form))
    return Exit.DONE
