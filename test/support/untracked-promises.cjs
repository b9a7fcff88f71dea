/**
 * Loaded before each test file: Node's test runner follows every promise to the test that made it, which costs a tenth of all the CPU time
 * here. Without, a rejection that nobody handles fails its file, and names no test.
 */
const hooks = require('node:async_hooks')

const { createHook } = hooks
hooks.createHook = (callbacks) => createHook({ ...callbacks, trackPromises: false })
