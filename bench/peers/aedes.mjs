// Starts aedes on one port: node aedes.mjs PORT NODE_MODULES
import { createServer } from 'node:net'
import { pathToFileURL } from 'node:url'

const [port, modules] = process.argv.slice(2)
const { Aedes } = await import(pathToFileURL(modules + '/aedes/aedes.js'))
const broker = await Aedes.createBroker({ concurrency: 10000 })
const server = createServer({ noDelay: true }, broker.handle)
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 1024 })
