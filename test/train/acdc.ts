// Where the real ACDC files are, for tests that use them; they are not part of the project.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The folder, or undefined after printing that a test is skipped. WGRAD_ACDC overrides ../shared/data/acdc. */
export function acdcFolder(test: string): string | undefined {
  const dir = process.env.WGRAD_ACDC ?? resolve('../shared/data/acdc');
  if (existsSync(join(dir, 'splits.json'))) return dir;
  console.log(`skipped: ${test} — no ACDC files at ${dir}. Set WGRAD_ACDC to their folder.`);
  return undefined;
}
