"""The terminal app: screens over the use cases, with no logic of their own. The only part that imports Textual."""
