// Where Mesa's drivers and their shims are: a shim is a library that answers for the kernel, so that the driver finds a GPU that is
// not there. Such a GPU compiles and accepts everything, and computes nothing.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../../train/files/usage-error.js';
import type { Card } from './cards.js';

const parts = {
  radv: { shim: 'libamdgpu_noop_drm_shim.so', manifest: /^radeon_icd.*\.json$/ },
  nvk: { shim: 'libnouveau_noop_drm_shim.so', manifest: /^nouveau_icd.*\.json$/ },
} as const;

const librariesIn = ['/usr/lib', '/usr/local/lib', '/usr/lib64'];
const manifestsIn = ['/usr/share/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/etc/vulkan/icd.d'];

const listed = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);

/** A file of these folders, or of a folder in one of them (Debian: by architecture). */
function found(folders: readonly string[], isIt: (name: string) => boolean): string | undefined {
  for (const folder of folders) {
    const names = listed(folder);
    const direct = names.find(isIt);
    if (direct) return join(folder, direct);
    const below = names.filter((name) => /linux-gnu/.test(name));
    const deeper = below.flatMap((name) =>
      listed(join(folder, name))
        .filter(isIt)
        .map((file) => join(folder, name, file)),
    );
    if (deeper[0]) return deeper[0];
  }
  return undefined;
}

/** What is missing to compile for a card, and how to install it; undefined where all is there. */
export function missingFor({ driver }: Card): string | undefined {
  if (process.platform !== 'linux') return `Mesa's shims are for Linux — this is ${process.platform}.`;
  const { shim, manifest } = parts[driver];
  const missing = [
    ...(found(librariesIn, (name) => name === shim) ? [] : [shim]),
    ...(found(manifestsIn, (name) => manifest.test(name)) ? [] : [driver === 'radv' ? "Mesa's RADV" : "Mesa's NVK"]),
  ];
  if (!missing.length) return undefined;
  return (
    `${missing.join(' and ')} not found. ` +
    (driver === 'radv'
      ? 'Install Mesa 25: apt-get install mesa-vulkan-drivers mesa-drm-shim libvulkan1 (Debian 13; Debian 12 from backports).'
      : 'Install Mesa 25 with NVK: apt-get install mesa-vulkan-drivers mesa-drm-shim libvulkan1 (Debian 13; Debian 12 has no NVK).')
  );
}

/** The environment of a program that is to find this card and no other, and whose driver prints what it compiles. */
export function environmentFor(card: Card): NodeJS.ProcessEnv {
  const why = missingFor(card);
  if (why !== undefined) throw new UsageError(`bench paper: ${why}`);
  const { shim, manifest } = parts[card.driver];
  const { WGRAD_ADAPTER: _, VK_ICD_FILENAMES: __, ...environment } = process.env;
  return {
    XDG_RUNTIME_DIR: '/tmp', // Mesa warns where it is not set
    ...environment,
    LD_PRELOAD: found(librariesIn, (name) => name === shim),
    VK_DRIVER_FILES: found(manifestsIn, (name) => manifest.test(name)),
    MESA_SHADER_CACHE_DISABLE: '1',
    ...(card.driver === 'radv'
      ? { AMDGPU_GPU_ID: card.chip, RADV_DEBUG: 'shaderstats,asm,nocache' }
      : { NOUVEAU_CHIPSET: card.chip, NVK_I_WANT_A_BROKEN_VULKAN_DRIVER: '1', NAK_DEBUG: 'print' }),
  };
}
