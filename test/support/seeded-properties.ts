/** Loaded before each test file: the samples of a property that names no seed are those of every run. */
import * as fc from 'fast-check'
import { SEED } from './seed.ts'

fc.configureGlobal({ seed: SEED })
