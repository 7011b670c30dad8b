"""`python -m adamx` prints the catalogue; `python -m adamx show NAME` all about a rule."""

import argparse
import sys

from adamx.listing import page, table


def main(arguments=None):
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m adamx", description="The rules of adamx.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="the table of all rules (the default)")
    show = commands.add_parser("show", help="a rule's line of stages, formulas, defaults, and how it differs elsewhere")
    show.add_argument("name", metavar="NAME", help="the rule, as adamw")
    chosen = parser.parse_args(arguments)
    if chosen.command != "show":
        print(table())
        return 0
    try:
        print(page(chosen.name))
    except ValueError as error:
        print(f"python -m adamx: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
