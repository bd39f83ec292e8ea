# mqttd in a container: `docker build -t mqttd .`, then
#   docker run -p 1883:1883 -v ./mqttd.toml:/etc/mqttd/mqttd.toml:ro -v mqttd:/var/lib/mqttd mqttd
# Without a configuration of yours it listens inside the container only.
FROM python:3.13-slim AS build
COPY . /src
RUN python -m venv /opt/mqttd \
    && /opt/mqttd/bin/pip install --no-cache-dir "/src[passwords,websocket,metrics]" \
    # Twisted keeps a list of its plugins beside them; only now it may be written.
    && /opt/mqttd/bin/twistd --help > /dev/null

FROM python:3.13-slim
RUN useradd --system --uid 1883 --home-dir /var/lib/mqttd --shell /usr/sbin/nologin mqttd \
    && install -d -m 0700 -o mqttd -g mqttd /var/lib/mqttd
COPY --from=build /opt/mqttd /opt/mqttd
ENV PATH=/opt/mqttd/bin:$PATH \
    STATE_DIRECTORY=/var/lib/mqttd
WORKDIR /var/lib/mqttd
USER 1883
VOLUME /var/lib/mqttd
EXPOSE 1883 8883 8083 8084 8443
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["mqttctl", "--socket", "/var/lib/mqttd/control.socket", "status"]
# SIGTERM takes leave of the clients; give it longer than drain_timeout to end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "mqttd"]
