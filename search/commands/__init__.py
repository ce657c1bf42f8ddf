"""The commands, one file each: ``run(args)`` does the work and returns the exit code."""
