"""The daemon in a process of its own, served by real clients over real sockets."""
