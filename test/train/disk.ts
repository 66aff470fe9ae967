// The calls by which a run changes its folder, met one by one in this process: a test sees what is on the disk before each, which is
// what a process that is killed there leaves behind, and may let a call fail, as on a full disk. Node's own functions are replaced
// for that time, so that nothing that writes can be left out, and the run itself knows nothing of it.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join, relative, sep } from 'node:path';

/** One call that is about to change a folder. */
export interface Change {
  /** Counted from 0. */
  readonly index: number;
  /** Node's name of the call. */
  readonly call: string;
  /** The file concerned, relative to the folder; of a rename, the new name. */
  readonly path: string;
  /** What is about to be written, after what the file already holds if `appends`. */
  readonly data: Buffer | undefined;
  readonly appends: boolean;
}

type Call = (...args: never[]) => unknown;
const calls = fs as unknown as Record<string, Call>;
/** Which argument names the file. A file descriptor is looked up. */
const fileOf: Readonly<Record<string, number>> = {
  ...{
    appendFileSync: 0,
    copyFileSync: 1,
    cpSync: 1,
    ftruncateSync: 0,
    linkSync: 1,
    mkdirSync: 0,
    openSync: 0,
    renameSync: 1,
  },
  ...{ rmSync: 0, rmdirSync: 0, symlinkSync: 1, truncateSync: 0, unlinkSync: 0, writeFileSync: 0, writeSync: 0 },
};

/** Does `work`; `before` is told of each change of `folder`, and what it throws, the call throws. */
export async function watching<T>(
  folder: string,
  before: (change: Change) => void,
  work: () => Promise<T>,
): Promise<T> {
  const real = Object.fromEntries(Object.keys(fileOf).map((name) => [name, calls[name]!]));
  const open = new Map<number, string>();
  let index = 0;
  let inside = false;
  let over = false;
  for (const [name, at] of Object.entries(fileOf)) {
    const watched = (...args: unknown[]): unknown => {
      const perform = () => real[name]!(...(args as never[]));
      const isReading = name === 'openSync' && (args[1] ?? 'r') === 'r';
      const named = typeof args[at] === 'number' ? open.get(args[at]) : String(args[at]);
      const path = named === undefined ? '..' : relative(folder, named);
      if (over || inside || isReading || path.split(sep)[0] === '..') return perform();
      inside = true; // Node's own calls are made of each other
      try {
        const holds = /^(append|write)/.test(name);
        const data = holds ? bytesOf(args[1] as string | Uint8Array, name === 'writeSync' ? args[2] : 0) : undefined;
        before({ index: index++, call: name, path, data, appends: name !== 'writeFileSync' });
        const result = perform();
        if (name === 'openSync') open.set(result as number, String(args[at]));
        return result;
      } finally {
        inside = false;
      }
    };
    calls[name] = watched as Call;
  }
  syncBuiltinESMExports();
  try {
    return await work();
  } finally {
    over = true; // Node may have kept a function that it met meanwhile
    Object.assign(calls, real);
    syncBuiltinESMExports();
  }
}

function bytesOf(data: string | Uint8Array, from: unknown): Buffer {
  const bytes =
    typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return bytes.subarray(typeof from === 'number' ? from : 0);
}

/** What a folder holds: its files' bytes by relative path; folders end with the separator. */
export type Contents = Map<string, Buffer | undefined>;

/** Reads a folder; empty where there is none. */
export function contentsOf(folder: string): Contents {
  if (!fs.existsSync(folder)) return new Map();
  const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    entries
      .map((entry): [string, Buffer | undefined] => {
        const path = join(entry.parentPath ?? entry.path, entry.name);
        return entry.isDirectory()
          ? [relative(folder, path) + sep, undefined]
          : [relative(folder, path), fs.readFileSync(path)];
      })
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** Makes a folder hold just that. */
export function restore(folder: string, contents: Contents): void {
  fs.rmSync(folder, { recursive: true, force: true });
  if (contents.size) fs.mkdirSync(folder);
  for (const [path, bytes] of contents) {
    if (bytes) fs.writeFileSync(join(folder, path), bytes);
    else fs.mkdirSync(join(folder, path), { recursive: true });
  }
}

/** What a process that is killed before a call, or in the middle of its writing, leaves behind. */
export function leftBy({ path, data, appends }: Change, contents: Contents): Contents[] {
  if (!data?.length) return [contents];
  const kept = appends ? (contents.get(path) ?? Buffer.alloc(0)) : Buffer.alloc(0);
  const torn = new Map(contents).set(path, Buffer.concat([kept, data.subarray(0, Math.ceil(data.length / 2))]));
  return [contents, new Map([...torn].sort(([a], [b]) => (a < b ? -1 : 1)))];
}
