"""The inside of a model: every intermediate array and its gradient; parameters, operations and bytes."""
