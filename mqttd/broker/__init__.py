"""What an MQTT server is: connections, sessions, routing. No sockets here."""
