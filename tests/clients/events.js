// tests/clients/events.js -- an EventSource, as browsers have it: node events.js URL
// Writes one JSON array [name, id, data] for each event and ["closed", status] when it will not connect again.
"use strict";

const { EventSource } = require("eventsource");

const source = new EventSource(process.argv[2]);
const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");

for (const name of ["state", "progress", "queue", "reset", "end", "log", "reached", "lost"])
  source.addEventListener(name, (event) => tell([name, event.lastEventId, JSON.parse(event.data)]));
source.onerror = (event) => {
  if (source.readyState === EventSource.CLOSED)
    tell(["closed", event.code]);
};
