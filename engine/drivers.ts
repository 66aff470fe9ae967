// Finds Vulkan on Linux: the system's loader and driver manifests, or SwiftShader with the loader that lies beside it. A process has
// one loader, which can only be chosen before Dawn is imported. A Dawn instance reads the drivers from the environment when it first
// looks for adapters.
import { readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { inHome } from './cache-folder.js';
import { loadLibrary } from './native.js';
import { manifestIn, swiftShaderFolder } from './swiftshader.js';

/** Folders that loaders do not search by themselves. */
const containerFolders = ['/usr/local/nvidia/share/vulkan/icd.d', '/run/opengl-driver/share/vulkan/icd.d'];

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
export function loadVulkan(): boolean {
  const [name, symbol] = ['libvulkan.so.1', 'vkGetInstanceProcAddr'];
  loader ??= loadLibrary(name, symbol) ? 'system' : undefined;
  if (!loader) {
    const folder = swiftShaderFolder();
    if (folder && loadLibrary(join(folder, name), symbol)) loader = 'carried';
  }
  return loader !== undefined;
}

/** The manifest of SwiftShader; undefined where there is none for this system. */
export function swiftShaderManifest(): string | undefined {
  const folder = swiftShaderFolder();
  return folder && manifestIn(folder);
}
