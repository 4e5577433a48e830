"""One function in a child process."""
