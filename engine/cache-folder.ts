// Where wgrad keeps what can be made again: tuned choices, and an unpacked software driver.
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder below the user's home; none without HOME and an entry in passwd (a container's bare user id), where Node throws. */
export function inHome(path: string): string[] {
  try {
    const home = homedir();
    return home ? [join(home, path)] : [];
  } catch {
    return [];
  }
}

/** The system's folder for caches. XDG_CACHE_HOME goes before it. */
function systemCache(platform: NodeJS.Platform): string[] {
  if (process.env.XDG_CACHE_HOME) return [process.env.XDG_CACHE_HOME];
  if (platform === 'win32') return process.env.LOCALAPPDATA ? [process.env.LOCALAPPDATA] : inHome('AppData/Local');
  return inHome(platform === 'darwin' ? 'Library/Caches' : '.cache');
}

/** Cache folders in order of preference; the last is this user's own folder among temporary files. */
export const cacheRoots = (platform = process.platform): string[] => [
  ...systemCache(platform).map((cache) => join(cache, 'wgrad')),
  join(tmpdir(), `wgrad-${process.getuid?.() ?? 'user'}`),
];
