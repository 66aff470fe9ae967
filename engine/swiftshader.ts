// SwiftShader: a Vulkan driver that computes on the CPU, for Linux x64. npm has it inside @sparticuz/chromium, beside a whole browser.
// From there, or from that package's tarball, its three files are unpacked once to the cache folder, where they are found from then on.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { cacheRoots } from './cache-folder.js';
import { GpuError } from './device.js';

/** The package that carries the driver. */
export const driverPackage = '@sparticuz/chromium';
const manifestName = 'vk_swiftshader_icd.json';
/** The driver, the loader beside it, and the manifest that names the driver. */
const driverFiles = ['libvk_swiftshader.so', 'libvulkan.so.1', manifestName];
const archiveName = 'bin/swiftshader.tar.br';

/** Whether SwiftShader can run here at all. */
export const swiftShaderRuns = process.platform === 'linux' && process.arch === 'x64';

/** The manifest of SwiftShader in its folder. */
export const manifestIn = (folder: string): string => join(folder, manifestName);

/** The folder of the installed package: beside wgrad, or in the project that runs it. */
function packageFolder(): string | undefined {
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      const entry = createRequire(from).resolve(driverPackage);
      for (let folder = dirname(entry); folder !== dirname(folder); folder = dirname(folder)) {
        if (existsSync(join(folder, archiveName))) return folder;
      }
    } catch {}
  }
  return undefined;
}

let unpacked: string | undefined;

/**
 * The folder of SwiftShader's files: of the installed package, unpacked if need be, else what the cache folder holds. Undefined where
 * there is none, or none for this system.
 */
export function swiftShaderFolder(): string | undefined {
  if (!swiftShaderRuns) return undefined;
  if (unpacked) return unpacked;
  const source = packageFolder();
  unpacked = source ? unpack((path) => readFileSync(join(source, path))) : newest();
  return unpacked;
}

/**
 * Keeps SwiftShader, with its licence, in the user's cache folder: 7 MB. Every later `openDevice` of this user finds it there.
 * `tarball` gives the bytes of the package's tarball (`npm pack @sparticuz/chromium`), and is not called where a SwiftShader is there
 * already. Resolves with the folder. Rejects with a GpuError where it cannot run (it is for Linux x64), and where the tarball holds none.
 * @example
 * const tarball = async () => new Uint8Array(await (await fetch(url)).arrayBuffer()); // the url that `npm view @sparticuz/chromium dist.tarball` prints
 * console.log(/swiftshader/.test(await keepSwiftShader(tarball))); // true
 */
export async function keepSwiftShader(tarball: () => Promise<Uint8Array>): Promise<string> {
  if (!swiftShaderRuns) {
    throw new GpuError(`device: SwiftShader runs on Linux x64 only — this is ${process.platform} ${process.arch}.`);
  }
  const found = swiftShaderFolder();
  if (found) return found;
  const bytes = await tarball();
  const expected = `expected that of ${driverPackage}, as npm pack writes it`;
  let files: Map<string, Buffer>;
  try {
    files = readTar(gunzipSync(bytes));
  } catch (error) {
    throw new GpuError(`device: no tarball — ${(error as Error).message}; ${expected}.`);
  }
  unpacked = unpack((path) => {
    const data = files.get(`package/${path}`);
    if (!data) throw new GpuError(`device: this tarball holds no ${path} — ${expected}.`);
    return data;
  });
  return unpacked;
}

/** Unpacks what `read` gives of the package's files to the cache folder, once per version. */
function unpack(read: (path: string) => Buffer): string {
  const { version } = JSON.parse(read('package.json').toString()) as { version: string };
  const places = cacheRoots().map((root) => join(root, `swiftshader-${version}`));
  const found = places.find(isOurs);
  if (found) return found;
  const archive = readTar(brotliDecompressSync(read(archiveName)));
  const files = new Map<string, Buffer>([['LICENSE', read('LICENSE')]]);
  for (const name of driverFiles) {
    const data = archive.get(name);
    if (!data) throw new GpuError(`device: the SwiftShader archive of ${driverPackage} ${version} has another layout.`);
    files.set(name, data);
  }
  for (const place of places) {
    try {
      return write(place, files);
    } catch {}
  }
  throw new GpuError(
    `device: SwiftShader cannot be unpacked to any of ${cacheRoots().join(', ')}. Make one of them writable, or set XDG_CACHE_HOME.`,
  );
}

/** The newest SwiftShader of the cache folders. */
function newest(): string | undefined {
  const found = cacheRoots().flatMap((root) => {
    try {
      return readdirSync(root).flatMap((name) => {
        const version = /^swiftshader-(\d+(?:\.\d+)*)$/.exec(name)?.[1];
        return version && isOurs(join(root, name)) ? [{ version, folder: join(root, name) }] : [];
      });
    } catch {
      return []; // no such folder
    }
  });
  return found.sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }))[0]?.folder;
}

/** Whether an unpacked driver is there and belongs to this user (or root): code is loaded from it. */
function isOurs(folder: string): boolean {
  if (!existsSync(manifestIn(folder))) return false;
  const owner = statSync(folder).uid;
  return owner === 0 || owner === process.getuid?.();
}

/** Writes files to a new folder beside `target` and renames it, so that other processes never see a half-written one. */
function write(target: string, files: ReadonlyMap<string, Buffer>): string {
  const half = `${target}.${process.pid}-${randomBytes(4).toString('hex')}`;
  mkdirSync(half, { recursive: true, mode: 0o700 });
  try {
    for (const [name, data] of files) writeFileSync(join(half, name), data, { mode: 0o755 });
    renameSync(half, target);
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    if (!isOurs(target)) throw error; // else another process was faster
  }
  return target;
}

/** The plain files of a tar archive in the ustar format, by their names. */
function readTar(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const text = (from: number, length: number) => archive.toString('latin1', from, from + length).split('\0')[0]!;
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (!(size >= 0) || at + 512 + size > archive.length) throw new GpuError('device: an archive is cut off.');
    const plain = ['0', '\0'].includes(String.fromCharCode(archive[at + 156]!));
    if (plain) files.set(text(at, 100).replace(/^\.\//, ''), archive.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}
