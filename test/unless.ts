// Tests that need what may be missing here: f16, a browser, real data. Such a test is declared as skipped, with the reason; the runner
// counts it and never takes it for passed. A test that prints a word and returns would be counted as passed: the runner refuses it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Callback, Test } from 'uvu';

const here = (path: string): boolean => existsSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)));

/** Why a test of the sources, or of a package that only they bring, has nothing to test: in the kit of bench/experiment/build-kit.ts. */
export const lackingSources = here('engine/index.ts') ? undefined : 'the kit carries no sources';

/** Set in the environment: only what `unless` registers is run. */
export const onlyNeedy = 'WGRAD_TEST_ONLY_NEEDY';

/**
 * Registers tests of a suite, or where `missing` says what is not here, declares each of them as skipped for that reason.
 * Tests whose reasons are the same text are counted together.
 */
export function unless(missing: string | undefined, test: Test): (name: string, work: Callback) => void {
  if (missing === undefined) return process.env[onlyNeedy] ? test.only : test;
  return (name) => {
    test.skip(name);
    console.log(`declared skips: 1 ${missing}`);
  };
}
