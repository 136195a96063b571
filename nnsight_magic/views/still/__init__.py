"""Views without a kernel and without scripts: HTML with pictures inside, and PNG."""
