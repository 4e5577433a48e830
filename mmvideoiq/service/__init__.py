"""What people start: the command ``mmvideoiq`` and its subcommands. Only tools and this room itself import it."""
