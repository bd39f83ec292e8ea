"""A web site with a page, and with MQTT over WebSocket at /mqtt, on one port.

Run it with ``python web_site.py``, open http://127.0.0.1:8080/ and publish to
``greeting`` on port 1883. The page speaks MQTT with MQTT.js.
"""

import os

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker
from mqttd.settings import WebSocketSettings

PAGE = b"""<!doctype html>
<title>MQTT</title>
<script src="https://unpkg.com/mqtt/dist/mqtt.min.js"></script>
<p id="greeting">Nothing was published to "greeting" yet.
<script>
  const client = mqtt.connect(`ws://${location.host}/mqtt`)
  client.subscribe("greeting")
  client.on("message", (topic, payload) => {
    document.getElementById("greeting").textContent = payload.toString()
  })
</script>
"""

port = os.environ.get("MQTT_PORT", "1883")
things = ListenerSettings(f"tcp:{port}:interface=127.0.0.1", allow_anonymous=True)
browsers = ListenerSettings("site:browsers", websocket=WebSocketSettings(), allow_anonymous=True)
mqtt = MQTTBroker(reactor, BrokerSettings(listeners=(things, browsers), drain_timeout=1.0))

root = Resource()
root.putChild(b"", Data(PAGE, "text/html"))
root.putChild(b"mqtt", mqtt.resource("browsers"))

reactor.listenTCP(int(os.environ.get("HTTP_PORT", "8080")), Site(root), interface="127.0.0.1")
mqtt.startService()
reactor.addSystemEventTrigger("before", "shutdown", mqtt.stopService)
print("serving", flush=True)
reactor.run()
