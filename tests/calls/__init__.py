"""Calls with arguments that cannot be right: each raises an error that names the argument."""
