"""The command line: one file a command, option groups as parameters, and the screen."""
