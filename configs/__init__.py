"""What was asked for: the settings, their checks, and the shipped recipes."""
