"""The hook engine: a forward pass that stands still wherever the user looks at it."""
