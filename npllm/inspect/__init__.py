"""The inside of a model: every intermediate array, and what it costs in parameters, operations and bytes."""
