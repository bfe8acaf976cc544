"""The terminal app: screens, widgets and keys over the same use cases that the commands call."""
