// Reads [{wire, version}, ...] from stdin, packets as hex; parses each by
// mqtt-packet and generates it again: [{packet, again} | {error}, ...].
"use strict";

const mqtt = require("mqtt-packet");

function pass({ wire, version }) {
  let found = { error: "no packet" };
  const parser = mqtt.parser({ protocolVersion: version });
  parser.on("packet", (packet) => {
    found = {
      command: packet.cmd,
      again: mqtt.generate(packet, { protocolVersion: version }).toString("hex"),
    };
  });
  parser.on("error", (error) => {
    found = { error: error.message };
  });
  try {
    parser.parse(Buffer.from(wire, "hex"));
  } catch (error) {
    found = { error: error.message };
  }
  return found;
}

const asked = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(asked.map(pass)));
