// Where the real ACDC files are, for tests that use them; they are not part of the project.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The folder: WGRAD_ACDC, else ../shared/data/acdc. */
export const acdcFolder = process.env.WGRAD_ACDC ?? resolve('../shared/data/acdc');

/** Why a test that needs the files cannot run, for `unless`; undefined where they are there. */
export const withoutAcdc = existsSync(join(acdcFolder, 'splits.json'))
  ? undefined
  : `no ACDC files at ${acdcFolder} (WGRAD_ACDC names their folder)`;
