"""The sections of a recipe: each a frozen dataclass with its settings, defaults and checks."""
