// Finds Vulkan on Linux: the system's loader and driver manifests, or the SwiftShader that the npm package @sparticuz/chromium
// carries, unpacked once to a cache folder. A process has one loader, which can only be chosen before Dawn is imported. A Dawn
// instance reads the drivers from the environment when it first looks for adapters.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { homedir, constants as osConstants, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { GpuError } from './device.js';

/** The package that carries the driver. */
export const driverPackage = '@sparticuz/chromium';
const manifestName = 'vk_swiftshader_icd.json';

/** Folders that loaders do not search by themselves. */
const containerFolders = ['/usr/local/nvidia/share/vulkan/icd.d', '/run/opengl-driver/share/vulkan/icd.d'];

/** The user's home folder; undefined without HOME and an entry in passwd (a container's bare user id), where Node throws. */
function homeFolder(): string | undefined {
  try {
    return homedir() || undefined;
  } catch {
    return undefined;
  }
}

/** A folder below the user's home, where there is one. */
const inHome = (path: string): string[] => {
  const home = homeFolder();
  return home === undefined ? [] : [join(home, path)];
};

/** Folders in which Vulkan loaders (and GPU containers, and NixOS) keep driver manifests. */
const manifestFolders = (): string[] => [
  ...(process.env.XDG_CONFIG_HOME ? [join(process.env.XDG_CONFIG_HOME, 'vulkan/icd.d')] : []),
  ...inHome('.config/vulkan/icd.d'),
  '/etc/vulkan/icd.d',
  '/usr/local/share/vulkan/icd.d',
  '/usr/share/vulkan/icd.d',
  '/usr/local/etc/vulkan/icd.d',
  ...inHome('.local/share/vulkan/icd.d'),
  ...containerFolders,
];

const manifestsIn = (folder: string): string[] => {
  try {
    return readdirSync(folder, { recursive: false, encoding: 'utf8' })
      .filter((name) => name.endsWith('.json'))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
};

/** Driver manifests of this system; those that the user names in VK_DRIVER_FILES (or VK_ICD_FILENAMES) replace all. */
export function systemManifests(): string[] {
  const named = process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES;
  if (named === undefined) return [...new Set(manifestFolders())].flatMap(manifestsIn);
  return named
    .split(delimiter)
    .filter((path) => path !== '')
    .flatMap((path) => (path.endsWith('.json') ? [path] : manifestsIn(path)));
}

/** A value for VK_DRIVER_FILES that adds what the loader would not find by itself; undefined when it finds everything. */
export function systemDriverFiles(): string | undefined {
  if (process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES) return undefined;
  return containerFolders.some((folder) => manifestsIn(folder).length) ? systemManifests().join(delimiter) : undefined;
}

let loader: 'system' | 'carried' | undefined;

/**
 * Makes sure that a Vulkan loader is in the process before Dawn looks for one: the system's, else the one carried beside
 * SwiftShader. False when there is neither.
 */
export async function loadVulkan(): Promise<boolean> {
  loader ??= dlopenGlobal('libvulkan.so.1') ? 'system' : undefined;
  if (!loader) {
    const folder = await unpackSwiftShader();
    if (folder && dlopenGlobal(join(folder, 'libvulkan.so.1'))) loader = 'carried';
  }
  return loader !== undefined;
}

/** Loads a shared library that is not a Node addon and leaves it in the process, its symbols visible to later libraries. */
function dlopenGlobal(path: string): boolean {
  const { RTLD_NOW, RTLD_GLOBAL } = osConstants.dlopen;
  const keepLoaded = 0x1000; // RTLD_NODELETE, which Node does not list
  try {
    process.dlopen({ exports: {} }, path, RTLD_NOW | RTLD_GLOBAL | keepLoaded);
    return true;
  } catch (error) {
    return /did not self-register/.test((error as Error).message);
  }
}

/** The folder of the installed driver package: beside wgrad, or in the project that runs it. */
function packageFolder(): string | undefined {
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      const folder = dirname(dirname(createRequire(from).resolve(driverPackage)));
      if (existsSync(join(folder, 'bin/swiftshader.tar.br'))) return folder;
    } catch {}
  }
  return undefined;
}

/** The manifest of the carried SwiftShader, unpacked if need be; undefined where there is none for this system. */
export async function swiftShaderManifest(): Promise<string | undefined> {
  const folder = await unpackSwiftShader();
  return folder && join(folder, manifestName);
}

let unpacked: Promise<string | undefined> | undefined;

/** Unpacks the driver to the cache folder, once per package version; undefined where there is none for this system. */
function unpackSwiftShader(): Promise<string | undefined> {
  unpacked ??= (async () => {
    if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
    const source = packageFolder();
    if (!source) return undefined;
    const { version } = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8')) as { version: string };
    const name = `swiftshader-${version}`;
    const found = cacheRoots()
      .map((root) => join(root, name))
      .find(isOurs);
    if (found) return found;
    const files = readTar(brotliDecompressSync(readFileSync(join(source, 'bin/swiftshader.tar.br'))));
    for (const root of cacheRoots()) {
      try {
        return await unpackTo(join(root, name), files);
      } catch {}
    }
    throw new GpuError(
      `device: SwiftShader cannot be unpacked to any of ${cacheRoots().join(', ')}. Make one of them writable, or set XDG_CACHE_HOME.`,
    );
  })();
  return unpacked;
}

/** Whether an unpacked driver is there and belongs to this user (or root): code is loaded from it. */
function isOurs(folder: string): boolean {
  if (!existsSync(join(folder, manifestName))) return false;
  const owner = statSync(folder).uid;
  return owner === 0 || owner === process.getuid?.();
}

/** Cache folders in order of preference; the last is this user's own folder among temporary files. */
export function cacheRoots(): string[] {
  const caches = process.env.XDG_CACHE_HOME ? [process.env.XDG_CACHE_HOME] : inHome('.cache');
  return [...caches.map((cache) => join(cache, 'wgrad')), join(tmpdir(), `wgrad-${process.getuid?.() ?? 'user'}`)];
}

/** Writes files to a new folder beside `target` and renames it, so that other processes never see a half-written one. */
async function unpackTo(target: string, files: Map<string, Buffer>): Promise<string> {
  const half = `${target}.${process.pid}-${randomBytes(4).toString('hex')}`;
  mkdirSync(half, { recursive: true, mode: 0o700 });
  try {
    for (const [name, data] of files) await writeFile(join(half, name), data, { mode: 0o755 });
    renameSync(half, target);
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    if (!isOurs(target)) throw error; // else another process was faster
  }
  return target;
}

/** The Vulkan files of a tar archive, by base name. Reads plain files of the ustar format, since the archive holds no others. */
function readTar(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const text = (from: number, length: number) => archive.toString('latin1', from, from + length).split('\0')[0]!;
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const name = text(at, 100);
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (!(size >= 0) || at + 512 + size > archive.length)
      throw new GpuError('device: the SwiftShader archive is damaged.');
    const plain = ['0', '\0'].includes(String.fromCharCode(archive[at + 156]!));
    const base = name.slice(name.lastIndexOf('/') + 1);
    if (plain && /^(libvk_swiftshader\.so|libvulkan\.so\.1|vk_swiftshader_icd\.json)$/.test(base)) {
      files.set(base, archive.subarray(at + 512, at + 512 + size));
    }
    at += 512 + Math.ceil(size / 512) * 512;
  }
  if (files.size !== 3) throw new GpuError(`device: the SwiftShader archive of ${driverPackage} has another layout.`);
  return files;
}
