"""`python -m xlnb` is the command line."""

from xlnb.commands.cli import main

main()
