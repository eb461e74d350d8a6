// Runs the suite: its origin and the gateway on free ports, every test once, then the verdict.
//
// node run.mjs MODULES GATEWAY [KEEP]: the folder with the installed packages, the gateway's binary, and where to keep the run.

import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { arch, availableParallelism, cpus, release, tmpdir, type } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const READY_MAX_MS = 20_000

// How many tests of a kind passed. The suite tells those that failed from those it could not set up: an earlier step did not
// come out as the tested one needs it.
class Tally {
  passed = 0
  failed = 0
  unset = 0

  add (problem) {
    if (problem === undefined) this.passed += 1
    else if (problem.startsWith('Setup: ')) this.unset += 1
    else this.failed += 1
  }

  toString () {
    const unset = this.unset ? `, ${this.unset} could not be set up` : ''
    return `${this.passed} of ${this.passed + this.failed + this.unset} passed, ${this.failed} failed${unset}`
  }
}

const [modules, gateway, kept] = process.argv.slice(2)
const suite = join(modules, 'http-cache-tests')
const load = async (...path) => import(pathToFileURL(join(...path)).href)
const { named } = JSON.parse(readFileSync(new URL('deviations.json', import.meta.url)))

const work = mkdtempSync(join(tmpdir(), 'http-cache-tests-'))
const children = []
process.on('exit', () => {
  children.forEach(child => child.kill())
  rmSync(work, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

const origin = await freePort()
const listen = await freePort()
const settings = { npm_config_protocol: 'http', npm_config_port: origin, npm_config_pidfile: join(work, 'pid') }
await start('origin', origin, process.execPath, [join(suite, 'server/server.mjs')], settings)
// The suite asks what a method does that no cache knows.
const config = join(work, 'gateway.toml')
writeFileSync(config, 'http.methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH"]\n')
const flags = ['--listen', `127.0.0.1:${listen}`, '--upstream', `127.0.0.1:${origin}`, '--config', config]
await start('gateway', listen, gateway, ['run', ...flags])

const tests = (await load(suite, 'tests/index.mjs')).default
tests.push((await load(suite, 'tests/surrogate-control.mjs')).default)
const { runTests, getResults } = await load(suite, 'client/runner.mjs')
const fetch = (await load(modules, 'node-fetch/lib/index.mjs')).default
const began = Date.now()
await runTests(tests, fetch, false, `http://127.0.0.1:${listen}`)
const results = getResults()
const { lines, isGood } = judge(tests.flatMap(section => section.tests).filter(test => !test.browser_only))
console.log(lines.join('\n'))
if (kept) keep(kept, lines)
process.exit(isGood ? 0 : 1)

// The counts and every surprise; good if there is none.
function judge (all) {
  const known = new Map(all.map(test => [test.id, test]))
  const count = { required: new Tally(), optimal: new Tally(), check: new Tally() }
  const surprises = []
  for (const test of all) {
    const kind = test.kind ?? 'required'
    const problem = problemOf(test, known)
    count[kind].add(problem)
    if (kind === 'check') continue // a question about what a cache does, without a right answer
    const name = `${kind === 'required' ? 'required' : 'optional'} ${test.id}`
    if (problem !== undefined && !(test.id in named)) surprises.push(`${name} failed: ${problem}`)
    if (problem === undefined && test.id in named) surprises.push(`${name} passed: take it out of deviations.json`)
  }
  for (const id of Object.keys(named)) {
    if (!known.has(id)) surprises.push(`${id} is in deviations.json and not in the suite`)
  }
  const lines = [`http-cache-tests 0.4.5: required ${count.required}; optional ${count.optimal}; ` +
    `${Math.round((Date.now() - began) / 1000)} s; ${Object.keys(named).length} deviations are named`]
  return { lines: lines.concat(surprises.map(surprise => `  ${surprise}`)), isGood: surprises.length === 0 }
}

// What is wrong; nothing if the test passed, and so did all it depends on.
function problemOf (test, known) {
  const result = results[test.id]
  if (result === undefined) return 'it was not run'
  if (result !== true) return result.join(': ')
  const broken = (test.depends_on ?? []).find(id => problemOf(known.get(id), known) !== undefined)
  return broken && `it depends on ${broken}`
}

// Leaves the run in a folder: every test's result as the suite gives it, the verdict, command, commit and machine.
function keep (dir, lines) {
  mkdirSync(dir, { recursive: true })
  const sorted = Object.fromEntries(Object.entries(results).sort(([one], [other]) => one < other ? -1 : 1))
  writeFileSync(join(dir, 'results.json'), JSON.stringify(sorted, null, 1) + '\n')
  writeFileSync(join(dir, 'summary.md'), lines.join('\n') + '\n')
  const here = { cwd: fileURLToPath(new URL('.', import.meta.url)), encoding: 'utf8' }
  const commit = execFileSync('git', ['describe', '--always', '--dirty'], here).trim()
  writeFileSync(join(dir, 'README.md'), `# A run

- command: \`ops/lab/http-cache-tests --keep ${dir}\`
- commit: ${commit}
- processor: ${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} in use
- system: ${type()} ${release()} ${arch()}, Node ${process.versions.node}
`)
  console.log(`kept in ${dir}`)
}

async function start (name, port, program, args, settings = {}) {
  const log = join(work, `${name}.log`)
  const out = openSync(log, 'w')
  const child = spawn(program, args, { env: { ...process.env, ...settings }, stdio: ['ignore', out, out] })
  child.on('error', error => give(name, error.message))
  child.on('exit', code => give(name, `it ended with ${code}:\n${readFileSync(log, 'utf8')}`))
  children.push(child)
  for (const until = Date.now() + READY_MAX_MS; Date.now() < until;) {
    if (await answers(port)) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  give(name, `nothing listens on port ${port} after ${READY_MAX_MS} ms`)
}

function give (name, reason) {
  console.error(`the ${name} failed: ${reason}`)
  process.exit(2)
}

function answers (port) {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => { socket.destroy(); resolve(true) })
    socket.on('error', () => resolve(false))
  })
}

function freePort () {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
