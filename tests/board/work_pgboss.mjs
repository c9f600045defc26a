// pg-boss: `install DSN`, `send DSN ORDER`, `work DSN`.

import { execute, library, note } from './orders.mjs'

const { PgBoss } = library('pg-boss')
const [, , does, connectionString, order] = process.argv
const HEARTBEAT_SECONDS = 10 // the least that it takes

const boss = new PgBoss({
  connectionString,
  supervise: does === 'work',
  schedule: false,
  superviseIntervalSeconds: 1,
  monitorIntervalSeconds: 1,
  maintenanceIntervalSeconds: 1
})
boss.on('error', (error) => console.error(error))
await boss.start()
if (does === 'install') {
  await boss.createQueue('board', { heartbeatSeconds: HEARTBEAT_SECONDS, retryLimit: 2, retryDelay: 0 })
  await boss.stop()
} else if (does === 'send') {
  await boss.send('board', JSON.parse(order))
  await boss.stop({ graceful: false })
  process.exit(0)
} else {
  const options = { pollingIntervalSeconds: 0.5, heartbeatRefreshSeconds: 2, localConcurrency: 10 }
  await boss.work('board', options, async ([job]) => execute(job.data))
  note('ready')
}
