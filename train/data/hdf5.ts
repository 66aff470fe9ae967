// HDF5 files as SSL4MIS and UA-MT write them: datasets `image` and `label`. h5wasm reads them; it is an optional peer, so
// it is loaded only when a data set has such files, before the first is read. Its default is to open damaged files silently.
import { statSync } from 'node:fs';
import type { Dataset as HdfDataset } from 'h5wasm/node';
import { DataError, whyNot } from '../files/data-error.js';
import { type NanPolicy, withoutNan } from './intensity.js';
import { mostVoxels } from './nifti.js';

let library: typeof import('h5wasm/node') | undefined;

/** Loads h5wasm once; without it, a DataError tells how to install it. */
export async function loadHdf5(): Promise<typeof import('h5wasm/node')> {
  if (library) return library;
  let loaded: typeof import('h5wasm/node');
  try {
    loaded = await import('h5wasm/node');
  } catch (error) {
    throw new DataError(
      `hdf5: h5wasm, which reads .h5 files, cannot be loaded — ${(error as Error).message.split('\n')[0]}. Install it with: npm install h5wasm@0.10`,
    );
  }
  (await loaded.ready).activate_throwing_error_handler();
  library = loaded;
  return loaded;
}

/** A dataset in a file; the last axis runs fastest. */
export interface HdfArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** int16, float32 … */
  readonly dtype: string;
  /** What was read although it is unusual. */
  readonly notes: readonly string[];
}

/**
 * Reads numeric datasets of 2 or 3 axes by name, undefined where there is none. Needs loadHdf5 before; what is NaN in all but 'label'
 * goes by `nan`. Throws DataError.
 */
export function readHdf5<Name extends string>(
  path: string,
  names: readonly Name[],
  nan: NanPolicy = 'refuse',
): Record<Name, HdfArray | undefined> {
  if (!library) throw new Error('hdf5: loadHdf5 comes before readHdf5.');
  try {
    if (!statSync(path).isFile()) throw new DataError(`hdf5: ${path} is not a file.`);
  } catch (error) {
    throw error instanceof DataError ? error : new DataError(`hdf5: cannot read ${path} — ${whyNot(error)}.`);
  }
  let file: InstanceType<typeof library.File> | undefined;
  try {
    file = new library.File(path, 'r');
    const keys = file.keys();
    const entries = names.map((name) => [
      name,
      keys.includes(name) ? readArray(file!.get(name), path, name, name === 'label' ? 'refuse' : nan) : undefined,
    ]);
    return Object.fromEntries(entries);
  } catch (error) {
    throw error instanceof DataError ? error : new DataError(`hdf5: ${path}: ${inWords(String(error))}`);
  } finally {
    file?.close();
  }
}

/** The library's stack of reasons as one a user can act on. */
function inWords(diagnosis: string): string {
  if (/file signature not found/.test(diagnosis)) return 'this is not an HDF5 file. Copy or download it again.';
  if (/truncated file|eof|addr overflow|unable to read superblock/i.test(diagnosis))
    return 'the file is truncated. Copy or download it again.';
  const reasons = [...diagnosis.matchAll(/\(\): (.+)/g)].map(([, reason]) => reason);
  return `the file cannot be read (${reasons.at(-1) ?? diagnosis.split('\n')[0]}). Copy or download it again.`;
}

const isDataset = (entity: unknown): entity is HdfDataset =>
  typeof entity === 'object' && entity !== null && (entity as { type?: unknown }).type === 'Dataset';

function readArray(entity: unknown, path: string, name: string, nan: NanPolicy): HdfArray {
  const refuse = (what: string): never => {
    throw new DataError(`hdf5: ${path}: '${name}' ${what}`);
  };
  if (!isDataset(entity)) return refuse('is not a dataset. Expected an array of numbers.');
  const { shape, type, size, signed } = entity.metadata;
  if (type !== 0 && type !== 1) refuse(`holds no plain numbers (HDF5 class ${type}). Write it as int16 or float32.`);
  if (!shape || (shape.length !== 2 && shape.length !== 3) || shape.some((n) => n < 1)) {
    return refuse(`has shape [${shape ?? ''}]. Expected 2 or 3 axes, none of them empty.`);
  }
  const count = shape.reduce((product, n) => product * n, 1);
  if (count > mostVoxels) refuse(`has shape [${shape}], more than ${mostVoxels} values. Crop it or split it.`);
  const value = entity.value as ArrayLike<number | bigint> | null;
  if (value?.length !== count) return refuse(`holds ${value?.length ?? 0} values for shape [${shape}]. It is damaged.`);
  const finite = withoutNan(Float32Array.from(value as ArrayLike<number>, Number), nan, (what) => {
    throw new DataError(`hdf5: ${path}: '${name}': ${what}`);
  });
  const dtype = `${type === 1 ? 'float' : signed ? 'int' : 'uint'}${8 * size}`;
  return { shape, ...finite, dtype };
}

/** Writes numeric datasets by name, the last axis fastest, one slice of the first to a chunk. Needs loadHdf5 before. */
export function writeHdf5(
  path: string,
  arrays: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array | Uint8Array }>>,
): void {
  if (!library) throw new Error('hdf5: loadHdf5 comes before writeHdf5.');
  let file: InstanceType<typeof library.File> | undefined;
  try {
    file = new library.File(path, 'w');
    for (const [name, { shape, data }] of Object.entries(arrays)) {
      const chunks = shape.length > 2 ? [1, ...shape.slice(1)] : [...shape];
      file.create_dataset({ name, data, shape: [...shape], chunks, compression: 'gzip', compression_opts: 4 });
    }
  } catch (error) {
    throw new DataError(`hdf5: cannot write ${path} — ${inWords(String(error))}`);
  } finally {
    file?.close();
  }
}
