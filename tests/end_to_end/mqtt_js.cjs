// Clients of MQTT.js that do what they are told: one JSON object a line on stdin,
// {ask, action, client, ...}; answers {answer, result | error} and messages
// {client, topic, ...} on stdout. It ends when stdin does.
"use strict";

const fs = require("node:fs");
const net = require("node:net");
const readline = require("node:readline");
const mqtt = require("mqtt");

const clients = new Map();

function write(object) {
  process.stdout.write(JSON.stringify(object) + "\n");
}

function properties(packet) {
  const found = { ...(packet.properties || {}) };
  if (found.correlationData) {
    found.correlationData = found.correlationData.toString("hex");
  }
  return found;
}

function open(options) {
  if (options.path && !options.protocol) {
    return new mqtt.MqttClient(() => net.connect(options.path), options);
  }
  return mqtt.connect(options);
}

const actions = {
  connect({ client: name, options, files }) {
    for (const [option, path] of Object.entries(files)) {
      options[option] = fs.readFileSync(path);
    }
    options.reconnectPeriod = 0;
    const client = open(options);
    clients.set(name, client);
    client.on("message", (topic, payload, packet) =>
      write({
        client: name,
        topic,
        payload: payload.toString("hex"),
        qos: packet.qos,
        retain: packet.retain,
        properties: properties(packet),
      }),
    );
    return new Promise((resolve, reject) => {
      client.once("connect", () => resolve());
      client.on("error", reject);
      client.once("close", () => reject(new Error("the connection was closed")));
    });
  },

  async subscribe({ client: name, topic, qos }) {
    const granted = await clients.get(name).subscribeAsync(topic, { qos });
    return granted.map((each) => each.qos);
  },

  publish({ client: name, topic, payload, qos, retain, properties: more }) {
    if (more.correlationData) {
      more.correlationData = Buffer.from(more.correlationData);
    }
    const options = { qos, retain };
    if (Object.keys(more).length) {
      options.properties = more;
    }
    return clients.get(name).publishAsync(topic, payload, options).then(() => undefined);
  },

  publish_many({ client: name, topic, payloads, qos }) {
    const client = clients.get(name);
    const sent = payloads.map((payload) => client.publishAsync(topic, payload, { qos }));
    return Promise.all(sent).then(() => undefined);
  },

  disconnect({ client: name }) {
    return clients.get(name).endAsync();
  },

  drop({ client: name }) {
    clients.get(name).stream.destroy();
    return clients.get(name).endAsync(true);
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const asked = JSON.parse(line);
  try {
    write({ answer: asked.ask, result: await actions[asked.action](asked) });
  } catch (error) {
    write({ answer: asked.ask, error: String(error.message || error) });
  }
}).on("close", () => process.exit(0));
