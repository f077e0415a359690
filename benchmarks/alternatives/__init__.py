"""Run the same work with the tools that a user would pick instead, and compare outputs and speed."""
