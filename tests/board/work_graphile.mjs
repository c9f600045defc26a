// graphile-worker: `work DSN`; `install DSN` makes its tables.

import { execute, library, note } from './orders.mjs'

const { run, runMigrations } = library('graphile-worker')
const [, , does, connectionString] = process.argv

if (does === 'install') {
  await runMigrations({ connectionString })
} else {
  await run({
    connectionString,
    concurrency: 10,
    pollInterval: 1000,
    minResetLockedInterval: 1000,
    maxResetLockedInterval: 1000,
    taskList: { board: async (order) => void (await execute(order)) }
  })
  note('ready')
}
