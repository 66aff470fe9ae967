// A folder of phantoms in ACDC's layout: images, ground truth, Info.cfg and splits.json.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { makeFolder } from '../new-folder.js';
import { DataError, whyNot } from './data-error.js';
import { splitPatients } from './datasets.js';
import { writeNifti } from './nifti.js';
import { createPhantom } from './phantom.js';

export interface PhantomOptions {
  /** At least 3, so that training, validation and test have one each; default 20. */
  readonly patients?: number;
  /** Pixels along x and y; default 128. */
  readonly size?: number;
  readonly seed?: number;
}

/**
 * Writes patient001 … with frames, ground truth and Info.cfg, and splits.json (70/10/20 % of the patients). The same
 * options give the same bytes. Throws DataError for a folder that holds anything already or cannot be written.
 */
export function writePhantoms(outDir: string, { patients = 20, size = 128, seed = 1337 }: PhantomOptions = {}): void {
  if (!Number.isInteger(patients) || patients < 3 || patients > 999) {
    throw new DataError(`phantom: the number of patients must be 3 to 999 — got ${patients}.`);
  }
  if (!Number.isInteger(size) || size < 16 || size > 1024) {
    throw new DataError(`phantom: the size must be 16 to 1024 pixels — got ${size}.`);
  }
  const write = (work: () => void) => {
    try {
      work();
    } catch (error) {
      throw error instanceof DataError ? error : new DataError(`phantom: cannot write ${outDir} — ${whyNot(error)}.`);
    }
  };
  write(() => {
    makeFolder(resolve(outDir));
    if (readdirSync(outDir).length > 0) {
      throw new DataError(`phantom: ${outDir} is not empty. Choose another folder, or delete this one first.`);
    }
  });
  const names = Array.from({ length: patients }, (_, i) => `patient${String(i + 1).padStart(3, '0')}`);
  for (const [index, name] of names.entries()) {
    const phantom = createPhantom({ size, seed, index });
    const dir = join(outDir, name);
    const { spacing, shape } = phantom;
    write(() => {
      mkdirSync(dir);
      for (const { frame, image, label } of [phantom.diastole, phantom.systole]) {
        const stem = join(dir, `${name}_frame${String(frame).padStart(2, '0')}`);
        writeNifti(`${stem}.nii.gz`, { data: image, shape, spacing, dtype: 'int16' });
        writeNifti(`${stem}_gt.nii.gz`, { data: label, shape, spacing, dtype: 'uint8' });
      }
      const info = { ED: phantom.diastole.frame, ES: phantom.systole.frame, Group: phantom.group, NbFrame: 30 };
      const lines = Object.entries(info).map(([key, value]) => `${key}: ${value}\n`);
      writeFileSync(join(dir, 'Info.cfg'), lines.join(''));
    });
  }
  // Last, so that a folder with splits.json is a complete one.
  const splits = splitPatients(names, seed);
  write(() => writeFileSync(join(outDir, 'splits.json'), `${JSON.stringify(splits, null, 1)}\n`));
}
