"""In: the command line. Does: options -> BuildConfig, then what a command asks for. Out: an exit code.

To others: `commands.run`, the program. What is heavy is imported by the command that needs it.
"""
