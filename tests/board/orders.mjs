// What a task of the board does, in a worker of Node.js: the same as orders.py, into the same journal.

import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

const FOLDER = process.env.BOARD_FOLDER
const JOURNAL = `${FOLDER}/journal`
const POLL_MILLISECONDS = 20
const LONGEST_WAIT_MILLISECONDS = 120_000

// Libraries are in .cache/board, where `make board` puts them.
export const library = createRequire(new URL('../../.cache/board/package.json', import.meta.url))

export function note(word, fields = {}) {
  const line = { at: Date.now() / 1000, worker: process.env.BOARD_WORKER, word, ...fields }
  appendFileSync(JOURNAL, `${JSON.stringify(line)}\n`)
}

function numberOf(task, run) {
  const lines = readFileSync(JOURNAL, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line))
  const began = lines.filter((line) => line.task === task && line.word === 'began')
  return began.findIndex((line) => line.run === run) + 1
}

export async function execute({ task, does, seconds = 0 }) {
  const run = randomUUID()
  note('began', { task, run, does })
  const number = numberOf(task, run)
  if (does === 'dies') process.kill(process.pid, 'SIGKILL')
  if (does === 'computes' && number === 1) compute(seconds)
  if (does === 'waits') await waitForGate(task, number)
  note('finished', { task, run, does })
  return { run }
}

async function waitForGate(task, number) {
  const until = Date.now() + LONGEST_WAIT_MILLISECONDS
  while (!existsSync(`${FOLDER}/gates/${task}.${number}`) && !existsSync(`${FOLDER}/gates/${task}.all`)) {
    if (Date.now() > until) throw new Error(`nobody opened the gate of ${task}`)
    await sleep(POLL_MILLISECONDS)
  }
}

// The event loop does not run meanwhile.
function compute(seconds) {
  const until = Date.now() + seconds * 1000
  let sum = 0
  while (Date.now() < until) for (let step = 0; step < 1e6; step++) sum += Math.sqrt(step)
  return sum
}
