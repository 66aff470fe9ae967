// wgrad driver: SwiftShader for machines without a GPU. npm offers it only inside a package with a whole browser, so that package is
// downloaded once, to a temporary folder, and what is not the driver is thrown away.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keepSwiftShader, openDevice } from '../../engine/node.js';
import { DataError, whyNot } from '../files/data-error.js';
import { describeCommand } from '../settings/command-line.js';

/** The package and its version: the newest that declares itself for Node 20. */
const source = '@sparticuz/chromium@143.0.4';

export const command = describeCommand({
  name: 'driver',
  about: `
Gets SwiftShader, a driver that computes on the CPU, for machines without a GPU (Linux x64), and keeps it in the cache folder: 7 MB.
wgrad then finds it in every project of this user. npm has it only inside ${source}, so 67 MB are downloaded
once, and only the driver, its loader and the licence stay.`,
  flags: {
    from: { type: 'string', value: 'FILE', help: `a tarball that was downloaded already (npm pack ${source})` },
  },
});

/** Downloads the package's tarball with npm, which checks its integrity and knows about proxies; leaves nothing in npm's own cache. */
async function download(): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-driver-'));
  try {
    console.error(`driver: downloading ${source} (67 MB, once)`);
    const args = ['pack', source, '--pack-destination', folder, '--cache', join(folder, 'cache'), '--json'];
    const output = await new Promise<string>((done, fail) => {
      const child = spawn('npm', [...args, '--loglevel=error'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
      let [out, said] = ['', ''];
      child.stdout.on('data', (text) => (out += text));
      child.stderr.on('data', (text) => (said += text));
      child.on('error', ({ message }) =>
        fail(new DataError(`driver: npm does not run — ${message}. Use --from FILE.`)),
      );
      child.on('close', (code) => {
        const why = /^npm error (?!code |errno )(.*)$/m.exec(said)?.[1] ?? `exit code ${code}`;
        if (code === 0) done(out);
        else fail(new DataError(`driver: npm cannot download ${source} — ${why}. Use --from FILE.`));
      });
    });
    const [{ filename }] = JSON.parse(output) as [{ filename: string }];
    return readFileSync(join(folder, filename));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function read(path: string): Promise<Uint8Array> {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new DataError(`driver: cannot read ${path} — ${whyNot(error)}.`);
  }
}

/** Runs `wgrad driver`. */
export async function run(args: string[]): Promise<number> {
  const { from } = command.read(args).flags;
  console.log(await keepSwiftShader(() => (from === undefined ? download() : read(from))));
  const gpu = await openDevice({ adapter: 'swiftshader' });
  gpu.close();
  return 0;
}
