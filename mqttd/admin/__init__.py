"""How the broker is watched: $SYS topics, metrics, logs."""
